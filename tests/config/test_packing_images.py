# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``packed.hair_removal`` and ``packed.top_up`` from config to training."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from tiny import forget_runs

from hkd_mm.config.compose import compose_config, load_config
from hkd_mm.config.data_summary import (
    check_training,
    summarize_data,
)
from hkd_mm.datasets.packed.store import PackedStore
from hkd_mm.engine.runner import NamedRunner
from hkd_mm.errors import UserError
from hkd_mm.training.fingerprint import settings

CONFIGS = Path(__file__).parents[2] / 'configs'
EXAMPLE = CONFIGS / 'ham10000_64/mbv2.py'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


@pytest.fixture
def uneven(tiny_configs, tiny_data, tmp_path):
    """Options that name class folders of 12, 6 and 4 images."""
    root = shutil.copytree(tiny_data, tmp_path / 'uneven')
    for name, kept in dict(Eczema=6, Pigment=4).items():
        for path in sorted((root / name).glob('*.png'))[kept:]:
            path.unlink()
    return [f'data_root={root}']


@pytest.mark.parametrize(
    'options, value',
    [
        (['packed.hair_removal=True'], True),
        (['packed.hair_removal.threshold=20'], dict(threshold=20)),
        ({'packed.hair_removal': dict(radius=2)}, dict(radius=2)),
    ],
)
def test_hair_removal_reaches_every_loader(options, value):
    cfg = compose_config(EXAMPLE, options)
    for loader in LOADERS:
        assert cfg[loader].dataset.type == 'hkd_mm.PackedDataset'
        assert cfg[loader].dataset.hair_removal == value
        assert 'top_up' not in cfg[loader].dataset


def test_a_setting_goes_with_a_switch_in_the_config(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        f'_base_ = {str(EXAMPLE)!r}\n'
        '_loader = dict(dataset=dict(hair_removal=True))\n'
        'train_dataloader = val_dataloader = test_dataloader = _loader\n'
        'del _loader\n'
    )
    cfg = compose_config(path, ['packed.hair_removal.threshold=20'])
    found = cfg.train_dataloader.dataset.hair_removal
    assert found == dict(threshold=20)
    cfg = compose_config(path, ['packed.hair_removal=False'])
    assert cfg.train_dataloader.dataset.hair_removal is False


@pytest.mark.parametrize(
    'text, value', [('largest', 'largest'), ('0.5', 0.5), ('500', 500)]
)
def test_top_up_is_for_training_alone(text, value):
    cfg = compose_config(EXAMPLE, [f'packed.top_up={text}'])
    assert cfg.train_dataloader.dataset.top_up == value
    for loader in LOADERS[1:]:
        assert 'top_up' not in cfg[loader].dataset


def test_rand_augment_is_then_for_the_copies():
    steps = [
        dict(type='hkd_mm.HorizontalFlip'),
        dict(type='hkd_mm.RandAugment', count=(1, 2)),
    ]
    for options, said in (
        ({'packed.augment': steps}, None),
        ({'packed.augment': steps, 'packed.top_up': 'largest'}, True),
    ):
        cfg = compose_config(EXAMPLE, options)
        flip, rand = cfg.data_preprocessor.augment
        assert flip == steps[0]
        assert rand.get('copies_only') is said
    own = dict(steps[1], copies_only=False)
    cfg = compose_config(EXAMPLE, {'packed.augment': [own], 'packed.top_up': 9})
    assert cfg.data_preprocessor.augment == [own]
    assert 'copies_only' not in steps[1]  # what was given is not changed


def test_the_written_config_says_the_same_again(tmp_path):
    options = ['packed.top_up=0.5', 'packed.hair_removal.threshold=20']
    cfg = compose_config(EXAMPLE, options)
    cfg.dump(tmp_path / 'dumped.py')
    again = compose_config(tmp_path / 'dumped.py')
    assert again.to_dict() == cfg.to_dict()


@pytest.mark.parametrize(
    'option, said',
    [
        ('packed.top_up=most', "top_up='most': .* should be largest"),
        ('packed.top_up=1', 'top_up=1 must'),
        ('packed.hair_removal=3', 'hair_removal=3: .* should be True'),
        ('packed.hair_removal.kernal=1', 'kernal is no known key'),
        ('packed.hair_removal.kernel=2', 'hair_removal: kernel: '),
    ],
)
def test_bad_words_are_named_before_any_image_is_read(option, said):
    with pytest.raises(UserError, match=said):
        compose_config(EXAMPLE, [option])


def test_a_teacher_of_other_images_does_not_stand_for_one_of_these():
    plain = settings(compose_config(EXAMPLE, ['packed=True']))
    off = ['packed.hair_removal=False', 'packed.top_up=None']
    assert settings(compose_config(EXAMPLE, off)) == plain
    for option in ('packed.hair_removal=True', 'packed.top_up=largest'):
        assert settings(compose_config(EXAMPLE, [option])) != plain


def test_what_is_counted_counts_the_copies(uneven):
    words = ['class_weight=balanced', 'split_ratios=[0.5,0.25,0.25]']
    plain = load_config('tiny_student.py', [*uneven, *words, 'packed=True'])
    topped = load_config('tiny_student.py', [*uneven, *words, 'packed.top_up=largest'])
    assert plain.class_weight[2] > 1.4 > plain.class_weight[0]
    assert topped.class_weight == [1.0, 1.0, 1.0]
    one, two = summarize_data(plain), summarize_data(topped)
    most = int(one.train_counts.max())
    assert two.train_counts.tolist() == [most] * 3
    assert two.sizes == dict(one.sizes, train=3 * most)
    assert one.copies == 0 and two.copies == 3 * most - one.sizes['train']
    assert f'{two.copies} of the training images are copies' in str(two)
    assert 'copies' not in str(one)
    assert one.split_hash == two.split_hash
    topped.train_dataloader.batch_size = one.sizes['train'] + 1
    check_training(topped, two)


def test_the_last_batch_of_a_wrapped_data_set(uneven):
    cfg = load_config(
        'tiny_student.py',
        [*uneven, 'split_ratios=[0.5,0.25,0.25]', 'packed.top_up=largest'],
    )
    size = summarize_data(cfg).sizes['train']
    loader = cfg.train_dataloader
    loader.dataset = dict(
        type='mmengine.RepeatDataset', times=2, dataset=loader.dataset
    )
    loader.batch_size = 2 * size - 1
    runner, lines = NamedRunner.__new__(NamedRunner), []
    runner._train_dataloader = loader
    runner.logger = SimpleNamespace(info=lines.append)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        assert runner.build_dataloader(loader, seed=0).drop_last
    assert len(lines) == 1 and 'single image' in lines[0]


def test_trains_on_copies_and_without_hairs(uneven, tool, quick_runner, capfd):
    argv = ['tiny_student.py', '--work-dir', 'run', '--cfg-options', *uneven]
    argv += ['packed.top_up=largest', 'packed.hair_removal=True']
    assert tool('train')([*argv, 'max_epochs=1']) == 0
    said = capfd.readouterr()
    said = said.out + said.err
    assert re.search(r'\d+ of the training images are copies', said)
    assert 'hairs removed' in said
    forget_runs()
    # the written config tests on images without hairs, and on no copies
    assert tool('test')(['run/tiny_student.py', 'run/epoch_1.pth']) == 0
    (folder,) = Path('work_dirs/packed').iterdir()
    assert 'hairless' in folder.name


def test_the_pack_tool_removes_hairs_too(tiny_configs, tiny_data, tool, capsys):
    pack = tool('data/pack')
    argv = ['tiny_student.py', '--cfg-options', 'packed.hair_removal=True']
    assert pack(argv) == 0
    argv = [str(tiny_data), '--size', '16', '--interpolation', 'bilinear']
    assert pack([*argv, '--hair-removal']) == 0
    (folder,) = Path('work_dirs/packed').iterdir()
    assert capsys.readouterr().err.count('building') == 1
    assert pack(argv) == 0
    folders = list(Path('work_dirs/packed').iterdir())
    assert len(folders) == 2
    one, two = (PackedStore(f).pixels.numpy() for f in folders)
    assert one.shape == two.shape and not np.array_equal(one, two)
