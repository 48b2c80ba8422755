# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``packed=True`` on any config, and what it cannot do."""

import csv
from pathlib import Path

import pytest
import torch
from tiny import forget_runs

from hkd_mm.config.compose import compose_config, load_config
from hkd_mm.config.networks import config_root
from hkd_mm.errors import UserError
from hkd_mm.training.fingerprint import settings

CONFIGS = Path(__file__).parents[2] / 'configs'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
HKD = [
    dict(type='hkd_mm.HorizontalFlip', prob=0.5),
    dict(
        type='hkd_mm.ColorJitter',
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        hue=0.05,
    ),
    dict(type='hkd_mm.Rotate', degrees=10),
]


@pytest.mark.parametrize(
    'name, size',
    [
        ('hybrid_wrn50_mbv2.py', 116),
        ('hybrid_wrn50_mbv2_ham10000.py', 116),
        ('ham10000_64/mbv2.py', 64),
        ('students/resnet8_skin.py', 116),
    ],
)
def test_configs_are_packed_by_their_own_text(name, size):
    cfg = compose_config(CONFIGS / name)
    again = compose_config(CONFIGS / name, ['packed=True'])
    assert again._cfg_dict == cfg._cfg_dict
    for loader, split in zip(LOADERS, ('train', 'val', 'test')):
        data = cfg[loader].dataset
        assert data.type == 'hkd_mm.PackedDataset' and data.size == size
        assert data.interpolation == 'area' and 'margin' not in data
        assert data.dataset.split == split
        assert cfg[loader].collate_fn.type == 'hkd_mm.packed_collate'
        assert cfg[loader].num_workers == 0
    assert cfg.data_preprocessor.type == 'hkd_mm.PackedPreprocessor'
    assert cfg.data_preprocessor.augment == HKD
    assert cfg.data_preprocessor.mean == [127.5] * 3
    assert cfg.data_preprocessor.to_rgb is True
    assert cfg.default_hooks.view == dict(type='hkd_mm.ViewHook')
    assert 'ImageClassifier' not in (
        cfg.model.type,
        cfg.model.get('architecture', {}).get('type'),
    )


def test_options_reach_their_places():
    options = [
        'packed.margin=1.25',
        'packed=True',
        'packed.num_views=4',
        'packed.store_dir=some where',
        'input_size=80',
        'data_root=pictures',
        'classes=[A,B,C]',
        'split_seed=7',
        'train_dataloader.num_workers=2',
        'test_dataloader.dataset.split=val',
        'data_preprocessor.seed=5',
        'val_dataloader.dataset.verify=sample',
    ]
    cfg = compose_config(CONFIGS / 'hybrid_wrn50_mbv2.py', options)
    for loader in LOADERS:
        data = cfg[loader].dataset
        assert data.size == 80 and data.store_dir == 'some where'
        assert data.dataset.data_root == 'pictures'
        assert data.dataset.classes == ['A', 'B', 'C']
        assert data.dataset.seed == 7
        assert data.get('margin', 1) == (1.25 if 'train' in loader else 1)
    assert cfg.train_dataloader.num_workers == 2
    assert cfg.test_dataloader.dataset.dataset.split == 'val'
    assert cfg.val_dataloader.dataset.verify == 'sample'
    assert cfg.data_preprocessor.num_views == 4
    assert cfg.data_preprocessor.seed == 5
    assert cfg.data_preprocessor.input_size == cfg.model.input_size == 80


def test_options_as_a_dict_and_in_a_file(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        f'_base_ = {str(CONFIGS / "ham10000_64/mbv2.py")!r}\n'
        'data_preprocessor = dict(\n'
        "    augment=[dict(type='hkd_mm.VerticalFlip')])\n"
    )
    options = {'packed.num_views': 3, 'packed': True, 'input_size': 32}
    cfg = compose_config(path, options)
    assert cfg.data_preprocessor.num_views == 3
    assert cfg.data_preprocessor.augment == [dict(type='hkd_mm.VerticalFlip')]
    assert cfg.train_dataloader.dataset.size == 32
    cfg = compose_config(path, ['packed=True'])
    assert cfg.data_preprocessor.augment == [dict(type='hkd_mm.VerticalFlip')]
    cfg = compose_config(path, {'packed': dict(num_views=4)})
    assert cfg.data_preprocessor.num_views == 4
    for off in (['packed=False', 'packed.store_dir=x'], {'packed': False}):
        plain = compose_config(path, off)
        assert plain.train_dataloader.dataset.type == 'hkd_mm.HAM10000'
        assert plain.train_dataloader.dataset.pipeline[2] == dict(
            type='RandomFlip', prob=0.5, direction='vertical'
        )


@pytest.mark.parametrize('name', ['hybrid_wrn50_mbv2.py', 'students/resnet8_skin.py'])
def test_off_and_on_again_is_the_same(name, tmp_path):
    """What is turned off turns into what ``packed=True`` turns back."""
    cfg = compose_config(CONFIGS / name)
    compose_config(CONFIGS / name, ['packed=False']).dump(tmp_path / 'x.py')
    again = compose_config(tmp_path / 'x.py', ['packed=True'])
    for loader in LOADERS:
        assert again[loader].dataset == cfg[loader].dataset
    *same, rotate = again.data_preprocessor.augment
    assert same == HKD[:2]
    assert rotate == dict(HKD[2], prob=1.0, fill=128)


def test_the_written_config_says_the_same_again(tmp_path):
    cfg = compose_config(CONFIGS / 'ham10000_64/mbv2.py', ['packed=True'])
    cfg.dump(tmp_path / 'dumped.py')
    again = compose_config(tmp_path / 'dumped.py')
    assert again.to_dict() == cfg.to_dict()
    resized = compose_config(tmp_path / 'dumped.py', ['input_size=48'])
    assert resized.val_dataloader.dataset.size == 48


def test_a_teacher_of_the_stock_path_may_stand_for_one_of_this():
    path = CONFIGS / 'teachers/wrn50_ham10000.py'
    stock = settings(compose_config(path))
    assert settings(compose_config(path, ['packed=True'])) == stock
    other = compose_config(path, ['packed.margin=1.1'])
    other.data_preprocessor.augment = []
    assert settings(other) != stock


@pytest.mark.parametrize(
    'option, said',
    [
        ('packed=3', 'packed=3: .* should be True, False or a group'),
        ('packed.nonsense=1', 'packed has no "nonsense"; known there: mar'),
        ('packed.num_veiws=1', 'num_views'),
    ],
)
def test_bad_options_are_named(option, said):
    with pytest.raises(UserError, match=said):
        compose_config(CONFIGS / 'ham10000_64/mbv2.py', [option])


@pytest.mark.parametrize(
    'change, said',
    [
        ("train[2] = dict(type='RandomErasing')", 'RandomErasing'),
        ("train[2] = dict(type='RandomFlip', prob=[.5, .1])", 'RandomFlip'),
        ("train[2] = dict(type='Rotate', angle=3.)", 'angle=3.0'),
        ("train[1] = dict(type='Resize', scale=(8, 9))", r'\(8, 9\)'),
        ("train[1] = dict(type='Resize', scale=8, keep_ratio=True)", 'square'),
        ("train[0] = dict(type='LoadImageFromFile')", 'LoadImageFromFile'),
        ("test.insert(1, dict(type='CenterCrop', crop_size=8))", 'CenterCrop'),
        ("data_preprocessor['pad_value'] = 1", 'pad_value'),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(tiny_configs, change, said):
    path = Path(tiny_configs['student'])
    change = change.replace('train', 'train_pipeline', 1)
    change = change.replace('test.', 'test_pipeline.', 1)
    text = path.read_text().replace('train_dataloader =', f'{change}\nX =', 1)
    text = text.replace('\nX =', '\ntrain_dataloader =')
    path.write_text(text + 'input_size = None  # of no use to all of these\n')
    compose_config(path)
    with pytest.raises(UserError, match=said) as caught:
        compose_config(path, ['packed=True'])
    assert '\n' not in str(caught.value)


def _predictions(tool, *argv) -> list:
    forget_runs()
    assert tool('test')([*map(str, argv), '--out', 'out.csv']) == 0
    return list(csv.reader(Path('out.csv').open()))


def test_trains_packed_and_tests_alike_both_ways(
    tiny_configs, tool, quick_runner, monkeypatch, capsys
):
    text = tiny_configs['kd'].read_text()
    hooks = "dict(type='hkd_mm.TeacherCheckHook'), dict("
    hooks += "type='hkd_mm.RunReportHook'), dict(type='hkd_mm.EpochSeedHook')"
    text = text.replace("dict(type='hkd_mm.EpochSeedHook')", hooks)
    tiny_configs['kd'].write_text(text)
    argv = [str(tiny_configs['kd']), '--work-dir', 'run/kd']
    options = ['packed.margin=1.25', 'class_weight=balanced', 'max_epochs=1']
    assert tool('train')([*argv, '--cfg-options', *options]) == 0
    assert 'Teacher check: accuracy' in capsys.readouterr().out
    cfg = load_config('run/kd/tiny_kd.py')
    assert cfg.train_dataloader.dataset.margin == 1.25
    student = 'run/kd/student.pth'
    stock = _predictions(tool, argv[0], student)
    packed = _predictions(tool, argv[0], student, '--cfg-options', 'packed=True')
    assert packed == stock and len(stock) == 10
    forget_runs()
    argv = [argv[0], student, '--show-dir', 'x']
    assert tool('test')([*argv, '--cfg-options', 'packed=True']) == 2
    assert 'packed=False' in capsys.readouterr().err
    meta = torch.load(student, weights_only=True)['meta']
    statistics = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
    assert meta['data_preprocessor'] == dict(statistics, num_classes=3)


def test_a_resumed_run_makes_the_same_views(tiny_configs, tool, quick_runner):
    whole, again = ['--work-dir', 'whole'], ['--work-dir', 'again']
    common = [str(tiny_configs['student']), '--cfg-options', 'packed=True']
    assert tool('train')([*common, *whole]) == 0
    forget_runs()
    resume = ['--resume', 'whole/epoch_1.pth']
    assert tool('train')([*common, *again, *resume]) == 0
    one, two = (
        torch.load(f'{name}/epoch_2.pth', weights_only=False)['state_dict']
        for name in ('whole', 'again')
    )
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_pack_tool_builds_what_training_reads(tiny_configs, tiny_data, tool, capsys):
    pack = tool('data/pack')
    config = str(tiny_configs['student'])
    assert pack([config, '--cfg-options', 'packed.margin=1.5']) == 0
    said = capsys.readouterr()
    assert '36 images of 24 x 24' in said.out
    assert '36 images of 16 x 16' in said.out
    assert pack([config]) == 0
    said = capsys.readouterr()
    assert 'building' not in said.err and said.out.count('\n') == 1
    assert pack([str(tiny_data), '--size', '20', '--store-dir', 'x']) == 0
    assert 'x/data_20_' in capsys.readouterr().out
    assert pack([str(tiny_data)]) == 2
    assert '--size' in capsys.readouterr().err


def test_mixing_is_told_the_number_of_classes():
    mix = [dict(type='hkd_mm.Mixup', alpha=0.2)]
    for name, classes in (
        ('hybrid_wrn50_mbv2.py', 6),
        ('demo/mbv2_demo.py', 5),
    ):
        options = {'packed.augment': mix}
        cfg = compose_config(config_root() / name, options)
        assert cfg.data_preprocessor.num_classes == classes
        plain = compose_config(config_root() / name, dict(packed=True))
        assert 'num_classes' not in plain.data_preprocessor
