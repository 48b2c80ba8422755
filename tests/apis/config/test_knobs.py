# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Every top-level value of the shipped main config does what it says."""

from pathlib import Path

import pytest
from mmengine.config import DictAction

from hkd_mm.apis.config.compose import compose_config
from hkd_mm.apis.config.knobs import KNOBS
from hkd_mm.apis.config.loaders import LOADERS
from hkd_mm.apis.config.places import dicts

CONFIGS = Path(__file__).parents[3] / 'configs'
SHIPPED = dict(mask_threshold='segmentation/unet-r18_lidc.py')


def _all(config, key):
    """Every value under a key, however deep, lists as tuples."""
    return {
        tuple(node[key]) if isinstance(node[key], list) else node[key]
        for node in dicts(config)
        if key in node
    }


def _datasets(cfg, key):
    return set().union(*(_all(cfg[name].dataset, key) for name in LOADERS))


def _sizes(cfg):
    return set().union(*_datasets(cfg, 'scale'))


# knob: (text of the value, what it reaches, what must be found there)
REACHED = dict(
    data_root=('elsewhere', lambda c: _datasets(c, 'data_root'), 'elsewhere'),
    dataset_type=(
        'hkd_mm.HAM10000',
        lambda c: {c[name].dataset.type for name in LOADERS},
        'hkd_mm.HAM10000',
    ),
    classes=('[A,B,C]', lambda c: _datasets(c, 'classes'), ('A', 'B', 'C')),
    split_file=('s.json', lambda c: _datasets(c, 'split_file'), 's.json'),
    split_ratios=(
        '(0.6,0.2,0.2)',
        lambda c: _datasets(c, 'split_ratios'),
        (0.6, 0.2, 0.2),
    ),
    split_seed=('7', lambda c: _datasets(c, 'seed'), 7),
    input_size=('64', _sizes, 64),
    batch_size=(
        '8',
        lambda c: {c[name].batch_size for name in LOADERS},
        8,
    ),
    sampler=(
        'balanced',
        lambda c: {c.train_dataloader.sampler.type},
        'hkd_mm.BalancedSampler',
    ),
    max_epochs=(
        '9',
        lambda c: {c.train_cfg.max_epochs} | _all(c.param_scheduler, 'T_max'),
        9,
    ),
    patience=('5', lambda c: _all(c.custom_hooks, 'patience'), 5),
    pretrained=('False', lambda c: _all(c.model.architecture, 'pretrained')),
    class_weight=(
        'balanced',
        lambda c: _all(c.model.distiller, 'class_weight'),
        'balanced',
    ),
    mask_threshold=(
        '0.3',
        lambda c: (
            _all(c.val_evaluator, 'threshold')
            | _all(c.test_evaluator, 'threshold')
        ),
        0.3,
    ),
    seed=('9', lambda c: {c.randomness.seed}, 9),
    channels_last=('False', lambda c: {c.channels_last}, False),
    compiled=(
        'True',
        lambda c: {
            hook.student and hook.teacher
            for hook in c.custom_hooks
            if hook.type == 'hkd_mm.CompileHook'
        },
        True,
    ),
    packed=(
        'True',
        lambda c: {c[name].dataset.type for name in LOADERS},
        'hkd_mm.PackedDataset',
    ),
    device=('cpu', lambda c: {c.device}, 'cpu'),
    teacher=(
        'resnet152',
        lambda c: _all(c.model.teacher, 'model_name'),
        'resnet152',
    ),
    student=(
        'shufflenetv2',
        lambda c: {'ShuffleNetV2' in str(c.model.architecture)},
        True,
    ),
)


@pytest.mark.parametrize('way', ['child', 'option', 'option after a child'])
@pytest.mark.parametrize('knob', KNOBS)
def test_every_knob_of_the_shipped_config_does_something(
    knob, way, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text, reached, *expected = REACHED[knob]
    value = DictAction._parse_iterable(text)
    other = {'seed': 1, 'split_seed': 1, 'batch_size': 4}.get(knob)
    child = tmp_path / 'child.py'
    base = SHIPPED.get(knob, 'hybrid_wrn50_mbv2.py')
    lines = [f'_base_ = {str(CONFIGS / base)!r}']
    if way == 'child':
        lines.append(f'{knob} = {value!r}')
    elif way != 'option' and other is not None:
        lines.append(f'{knob} = {other}')
    child.write_text('\n'.join(lines) + '\n')
    before = reached(compose_config(child)) if way == 'option' else None
    options = [] if way == 'child' else [f'{knob}={text}']
    found = reached(compose_config(child, options))
    assert found == set(expected or [value])
    assert found != before


def test_a_data_set_that_one_loader_has_of_its_own_stays(tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(
        f'_base_ = [{str(CONFIGS / "hybrid_wrn50_mbv2.py")!r}]\n'
        "test_dataloader = dict(dataset=dict(type='hkd_mm.HAM10000'))\n"
    )
    for options in ([], ['dataset_type=hkd_mm.ISIC2019']):
        cfg = compose_config(child, options)
        kinds = [cfg[name].dataset.type for name in LOADERS]
        train = cfg.dataset_type
        assert kinds == [train, train, 'hkd_mm.HAM10000']
