# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Every word, as it is typed, changes the shipped main config."""

from pathlib import Path

import pytest

from hkd_mm.config.compose import compose_config
from hkd_mm.config.overrides import EXCHANGES, OVERRIDES
from hkd_mm.config.tree import LOADERS, datasets, dicts, hooks

CONFIGS = Path(__file__).parents[2] / 'configs'
SHIPPED = dict(
    mask_threshold='segmentation/unet-r18_lidc.py',
    network='students/mbv2_skin.py',
    pair='zoo/kd/kd_wrn50_mbv2_skin.py',
)


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
    return _datasets(cfg, 'size')


# word: (text of the value, what it reaches, what must be found there)
REACHED = dict(
    data_root=('elsewhere', lambda c: _datasets(c, 'data_root'), 'elsewhere'),
    dataset_type=(
        'hkd_mm.HAM10000',
        lambda c: {node.type for node in datasets(c)},
        'hkd_mm.HAM10000',
    ),
    classes=('[A,B,C]', lambda c: _datasets(c, 'classes'), ('A', 'B', 'C')),
    ann_file=('a b.csv', lambda c: _datasets(c, 'ann_file'), 'a b.csv'),
    unlabelled_root=(
        'a pile, found',
        lambda c: {n.get('unlabelled_root') for n in datasets(c)} - {None},
        'a pile, found',
    ),
    image_col=('isic_id', lambda c: _datasets(c, 'image_col'), 'isic_id'),
    label_col=('7', lambda c: _datasets(c, 'label_col'), '7'),
    split_col=('fold', lambda c: _datasets(c, 'split_col'), 'fold'),
    group_cols=(
        'patient_id,lesion_id',
        lambda c: _datasets(c, 'group_cols'),
        ('patient_id', 'lesion_id'),
    ),
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
    patience=('5', lambda c: _all([*hooks(c)], 'patience'), 5),
    pretrained=(
        'False',
        lambda c: _all(c.model.architecture, 'pretrained'),
        False,
    ),
    class_weight=(
        'balanced',
        lambda c: _all(c.model.distiller, 'class_weight'),
        'balanced',
    ),
    mask_threshold=(
        '0.3',
        lambda c: (
            _all(c.val_evaluator, 'threshold') | _all(c.test_evaluator, 'threshold')
        ),
        0.3,
    ),
    seed=('9', lambda c: {c.randomness.seed}, 9),
    channels_last=('False', lambda c: {c.channels_last}, False),
    compiled=(
        'True',
        lambda c: {
            hook.student and hook.teacher
            for hook in hooks(c)
            if hook.type == 'hkd_mm.CompileHook'
        },
        True,
    ),
    packed=(
        'False',
        lambda c: {c[name].dataset.type for name in LOADERS},
        'hkd_mm.SkinDisease',
    ),
    teacher_input_size=(
        '256',
        lambda c: {c.data_preprocessor.get('teacher_size')},
        256,
    ),
    loss_balance=('0.3', lambda c: {'loss_balance' in c.default_hooks}, True),
    teacher_cache=('False', lambda c: {c.model.teacher_cache is None}, True),
    augment=('False', lambda c: {len(c.data_preprocessor.augment)}, 0),
    pair=('demo', lambda c: _datasets(c, 'data_root'), 'data/demo'),
    network=(
        'timm:ghostnet_050',
        lambda c: {c.model.model_name},
        'ghostnet_050',
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


@pytest.mark.parametrize('word', [*OVERRIDES, *EXCHANGES])
def test_every_word_changes_the_shipped_config(word):
    path = CONFIGS / SHIPPED.get(word, 'hybrid_wrn50_mbv2.py')
    text, reached, wanted = REACHED[word]
    assert wanted not in reached(compose_config(path))
    assert reached(compose_config(path, [f'{word}={text}'])) == {wanted}


def test_a_child_may_give_one_loader_another_data_set(tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(
        f'_base_ = [{str(CONFIGS / "hybrid_wrn50_mbv2.py")!r}]\n'
        'test_dataloader = dict(\n'
        "    dataset=dict(dataset=dict(type='hkd_mm.HAM10000')))\n"
    )
    kinds = [node.type for node in datasets(compose_config(child))]
    assert kinds == ['hkd_mm.SkinDisease'] * 2 + ['hkd_mm.HAM10000']
    cfg = compose_config(child, ['dataset_type=hkd_mm.ISIC2019'])
    assert {node.type for node in datasets(cfg)} == {'hkd_mm.ISIC2019'}
