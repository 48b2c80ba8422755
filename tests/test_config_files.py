# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Every config loads, keeps to the naming rule, and is what it claims."""

import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
ALL = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob('*.py'))
BASES = [name for name in ALL if '_base_' in name]  # never run themselves
TOLD = ('studies/', 'sweeps/')  # files of tools/compare.py and tools/sweep.py
RUNNABLE = [name for name in ALL if name not in BASES and not name.startswith(TOLD)]
SHARED = ('', 'demo/', 'students/', 'teachers/')  # folders of many data sets
VARIANTS = [
    f'{method}_wrn50_mbv2.py' for method in ('hybrid', 'kd', 'kd_hard', 'kd_align')
]


@pytest.mark.parametrize('name', RUNNABLE)
def test_config_loads_and_can_be_trained_and_tested(name):
    config = Config.fromfile(CONFIGS / name)
    assert config.default_scope == 'mmpretrain'
    assert 'hkd_mm' in config.custom_imports.imports
    for key in (
        'model',
        'data_root',
        'input_size',
        'batch_size',
        'max_epochs',
        'train_dataloader',
        'val_dataloader',
        'test_dataloader',
        'train_cfg',
        'optim_wrapper',
    ):
        assert key in config, key
    assert config.auto_scale_lr.base_batch_size > 0
    if config.model.type == 'hkd_mm.FrozenTeacherDistill':
        assert all('loss' in key for key in config.model.distiller.distill_losses)


@pytest.mark.parametrize('name', RUNNABLE)
def test_config_name_follows_the_rule(name):
    # <network>_<data> alone, <method>_<teacher>_<student>[_<data>] distilled;
    # the data are left out for the data of the paper. In the folder of one
    # benchmark, <network> or <method>. The recommended recipe is named by that.
    folder, slash, stem = name.removesuffix('.py').rpartition('/')
    # a network and its encoder are one field: unet-r18
    field = r'_[a-z0-9]+(-[a-z0-9]+)*'
    fields = f'({field})+' if folder + slash in SHARED else f'({field})*'
    named = re.fullmatch(r'[a-z][a-z0-9]*(-[a-z0-9]+)*' + fields, stem)
    assert named or name == 'recommended.py'
    distilled = (
        Config.fromfile(CONFIGS / name).model.type == 'hkd_mm.FrozenTeacherDistill'
    )
    if folder in ('', 'demo'):
        assert distilled == (stem.split('_')[0] in ('kd', 'hybrid', 'recommended'))
    assert not (distilled and folder in ('teachers', 'students'))


@pytest.mark.parametrize('name', BASES)
def test_base_parses(name):
    assert Config.fromfile(CONFIGS / name, import_custom_modules=False)
    assert re.fullmatch(r'([a-z0-9_]+/)*[a-z0-9_-]+\.py', name)


def test_the_four_variants_differ_by_their_losses_alone():
    configs = [Config.fromfile(CONFIGS / name) for name in VARIANTS]
    weights = {}
    for name, config in zip(VARIANTS, configs):
        assert len((CONFIGS / name).read_text().splitlines()) <= 20
        loss = config.model.distiller.distill_losses.loss_hybrid
        weights[name.removesuffix('_wrn50_mbv2.py')] = loss.alpha, loss.beta
        for key in ('connectors', 'distill_losses', 'loss_forward_mappings'):
            config.model.distiller.pop(key, None)
    assert weights == {
        'hybrid': (0.85, 0.02),
        'kd': (1.0, 0.0),
        'kd_hard': (0.85, 0.0),
        'kd_align': (1.0, 0.02),
    }
    dumped = [config.to_dict() for config in configs]
    assert all(config == dumped[0] for config in dumped)


def test_model_index_names_configs_that_exist():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    # mim needs the key; a metafile comes with results that were measured.
    assert set(index) == {'Import'}
    for name in index['Import']:
        assert (ROOT / name).is_file(), name
        rows = yaml.safe_load((ROOT / name).read_text())
        collections = {item['Name'] for item in rows['Collections']}
        for row in rows['Models']:
            assert Path(row['Config']).stem == row['Name']
            assert (ROOT / row['Config']).is_file()
            assert row['In Collection'] in collections
            assert all(
                0 <= value <= 100
                for result in row['Results']
                for value in result['Metrics'].values()
            )
