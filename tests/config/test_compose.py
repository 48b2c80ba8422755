# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Options reach every place they stand for, and wrong ones are refused."""

from pathlib import Path

import numpy as np
import pytest

from hkd_mm.config.compose import compose_config, load_config
from hkd_mm.config.tree import LOADERS
from hkd_mm.datasets.class_weights import balanced_weights
from hkd_mm.errors import UserError

LOSS = 'model.distiller.distill_losses.loss_hybrid'
CONFIGS = Path(__file__).parents[2] / 'configs'


def _scales(cfg):
    return [
        step['scale']
        for name in LOADERS
        for step in cfg[name].dataset.pipeline
        if step['type'] == 'Resize'
    ]


def test_data_root_reaches_all_loaders_with_blanks_and_commas(tiny_configs):
    cfg = load_config(tiny_configs['kd'], ['data_root=/my photos/a, b'])
    assert [cfg[name].dataset.data_root for name in LOADERS] == ['/my photos/a, b'] * 3


def test_words_reach_their_places(tiny_configs):
    cfg = load_config(
        tiny_configs['kd'],
        [
            'classes=A,B,C,D',
            'input_size=20',
            'batch_size=3',
            'max_epochs=7',
            'seed=5',
            'split_ratios=8:2',
            'split_file=my split.json',
        ],
    )
    assert [cfg[name].dataset.classes for name in LOADERS] == [['A', 'B', 'C', 'D']] * 3
    assert cfg.model.architecture.head.num_classes == 4
    assert cfg.model.teacher.head.num_classes == 4
    assert _scales(cfg) == [20] * 3 and cfg.model.input_size == 20
    assert [cfg[name].batch_size for name in LOADERS] == [3] * 3
    assert cfg.train_cfg.max_epochs == 7
    assert (cfg.param_scheduler[0].T_max, cfg.param_scheduler[0].end) == (7, 7)
    assert cfg.randomness.seed == 5
    assert cfg.train_dataloader.dataset.seed == 42  # the split stays
    assert cfg.val_dataloader.dataset.split_ratios == '8:2'
    assert cfg.test_dataloader.dataset.split_file == 'my split.json'


def test_pairs_of_sizes_stay_pairs_and_pretrained_spares_the_teacher():
    cfg = compose_config(
        CONFIGS / 'hybrid_wrn50_mbv2.py',
        ['input_size=64', 'pretrained=False', 'packed=False'],
    )
    assert [tuple(scale) for scale in _scales(cfg)] == [(64, 64)] * 3
    assert cfg.model.architecture.pretrained is False
    on = compose_config(CONFIGS / 'hybrid_wrn50_mbv2.py', ['pretrained=True'])
    assert on.model.architecture.pretrained is True
    assert on.model.teacher.pretrained is False


def test_a_start_from_scratch_warms_up_and_clips():
    cfg = compose_config(
        CONFIGS / 'hybrid_wrn50_mbv2.py', ['pretrained=False', 'max_epochs=60']
    )
    warm, cosine = cfg.param_scheduler
    assert (warm.type, warm.begin, warm.end) == ('LinearLR', 0, 3)
    assert warm.convert_to_iter_based and warm.start_factor == 0.01
    assert (cosine.T_max, cosine.end) == (60, 60)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5.0)
    # a schedule that has one keeps it
    path = CONFIGS / 'dspkd/shufflenetv2_isic2019.py'
    plain = compose_config(path)
    cfg = compose_config(path, ['pretrained=False'])
    assert cfg.param_scheduler == plain.param_scheduler
    assert cfg.optim_wrapper == plain.optim_wrapper


def test_dotted_key_wins_over_the_word(tiny_configs):
    cfg = load_config(
        tiny_configs['kd'], ['test_dataloader.batch_size=2', 'batch_size=5']
    )
    assert [cfg[name].batch_size for name in LOADERS] == [5, 5, 2]


def test_a_word_sets_every_place_also_those_of_the_child(tiny_configs, tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(
        "_base_ = './tiny_student.py'\nval_dataloader = dict(batch_size=2)\n"
    )
    cfg = load_config(child)
    assert [cfg[name].batch_size for name in LOADERS] == [6, 2, 6]
    cfg = load_config(child, ['batch_size=5'])
    assert [cfg[name].batch_size for name in LOADERS] == [5, 5, 5]


def test_warm_up_keeps_its_length(tiny_configs, tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(
        "_base_ = './tiny_student.py'\n"
        'param_scheduler = [\n'
        "    dict(type='LinearLR', begin=0, end=1, by_epoch=True),\n"
        "    dict(type='CosineAnnealingLR', T_max=1, begin=1, end=2,\n"
        '         by_epoch=True)]\n'
    )
    warm, cosine = load_config(child, ['max_epochs=10']).param_scheduler
    assert warm.end == 1
    assert (cosine.begin, cosine.T_max, cosine.end) == (1, 9, 10)


def test_config_round_trip_changes_nothing(tiny_configs, tmp_path):
    cfg = load_config(tiny_configs['kd'], ['class_weight=balanced', 'max_epochs=3'])
    cfg.dump(str(tmp_path / 'dumped.py'))
    again = load_config(tmp_path / 'dumped.py')
    assert again.to_dict() == cfg.to_dict()


@pytest.mark.parametrize('word, power', [('balanced', 1.0), ('sqrt_balanced', 0.5)])
def test_class_weight_word_becomes_numbers(word, power, tiny_configs):
    import tiny

    root = tiny.make_class_folders(Path('skewed'), per_class=8)
    for path in sorted((root / 'Acne').glob('*.png'))[4:]:
        path.unlink()
    cfg = load_config(tiny_configs['kd'], [f'data_root={root}', f'class_weight={word}'])
    counts = np.array([2, 4, 4])  # the training half of 4, 8, 8
    raw = counts**-power
    expected = raw * counts.sum() / (raw * counts).sum()
    loss = cfg.model.distiller.distill_losses.loss_hybrid
    assert np.allclose(loss.class_weight, expected, atol=1e-5)
    assert cfg.class_weight == loss.class_weight
    plain = load_config(
        tiny_configs['student'], [f'data_root={root}', f'class_weight={word}']
    )
    assert plain.model.head.loss.class_weight == cfg.class_weight


def test_class_prior_becomes_the_shares_of_the_training_split(tiny_configs, tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(
        f'_base_ = {str(tiny_configs["kd"])!r}\n'
        'model = dict(distiller=dict(distill_losses=dict(loss_ce=dict('
        "type='hkd_mm.BalancedSoftmaxLoss', class_prior='train'))))\n"
    )
    for read, expected in ((True, [1 / 3] * 3), (False, None)):
        losses = load_config(child, read_data=read).model.distiller.distill_losses
        assert losses.loss_ce.class_prior == pytest.approx(expected, abs=1e-5)


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    counts = np.array([3, 10, 87])
    labels = np.repeat(np.arange(3), counts)
    expected = compute_class_weight('balanced', classes=np.arange(3), y=labels)
    assert np.allclose(balanced_weights(counts, 'balanced'), expected, atol=1e-6)


@pytest.mark.parametrize(
    'option',
    [
        'randomness.deterministic=True',
        'optim_wrapper.clip_grad.max_norm=5',
        'optim_wrapper.optimizer.nesterov=True',
        'train_dataloader.pin_memory=True',
        'model.teacher_ckpt=a.pth',
        f'{LOSS}.alpha=0.5',
        f'{LOSS}.tau=2',
        'default_hooks.logger.interval=5',
        'custom_hooks.0.type=X',
        'load_from=a.pth',
        'device=cpu',
        'val_dataloader=None',
        'train_pipeline.1.scale=8',
        'model.architecture.backbone.depth=34',
        'env_cfg.dist_cfg.timeout=60',
        'test_dataloader.dataset.split=val',
    ],
)
def test_known_options_pass(option, tiny_configs):
    key, _, text = option.partition('=')
    cfg = compose_config(tiny_configs['kd'], [option])
    node = cfg
    for part in key.split('.'):
        node = node[int(part)] if part.isdigit() else node[part]
    assert str(node) == text


@pytest.mark.parametrize(
    'option, words',
    [
        ('data_rot=x', 'did you mean data_root'),
        ('model.teacher_ckpts=x', 'did you mean model.teacher_ckpt'),
        (f'{LOSS}.tua=2', f'did you mean {LOSS}.tau'),
        ('model.distiller.distill_losses.loss_hybird.tau=2', LOSS),
        ('train_dataloader.num_worker=2', 'train_dataloader.num_workers'),
        ('train_dataloader.dataset.data_rot=2', 'dataset.data_root'),
        ('optim_wrapper.optimiser.lr=1', 'optim_wrapper.optimizer'),
        ('optim_wrapper.optimizer.momentun=1', 'optimizer.momentum'),
        ('custom_hooks.7.x=1', 'is a list of 1'),
        ('batch_size.x=1', 'batch_size is 6'),
        ('batch_size=many', 'batch_size: Input should be a valid integer'),
        ('batch_size=0', 'batch_size=0'),
        ('max_epochs=2.5', 'max_epochs: Input should be a valid integer'),
        ('pretrained=yes', 'pretrained: Input should be a valid boolean'),
        ('optim_wrapper=SGD', 'group of settings'),
        ('class_weight=heavy', 'balanced'),
        ('device=gpu', "'auto', 'cpu' or 'cuda'"),
        ('classes=[A,B', 'brackets'),
        ('classes=[A,,B]', 'a name is empty'),
        ('classes=[]', 'a name is empty'),
        ('patience=3', 'needs an EarlyStoppingHook'),
        ('novalue', 'key=value'),
        ('teacher=resnet153', 'resnet152'),
    ],
)
def test_wrong_options_are_refused(option, words, tiny_configs):
    with pytest.raises(UserError) as caught:
        compose_config(tiny_configs['kd'], [option])
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'config', ['segmentation/unet-r18_lidc.py', 'demo/mbv2_demo.py']
)
def test_the_split_is_one_option_for_packed_and_others(config):
    """Packed by themselves, by the knob, and not at all."""
    option = 'test_dataloader.dataset.split=val'
    for more in ([], ['packed=True'], ['packed=False']):
        if 'segmentation' in config and more:
            continue
        cfg = compose_config(CONFIGS / config, [option, *more])
        found = cfg.test_dataloader.dataset
        assert found.get('dataset', found).split == 'val'
        assert (
            cfg.val_dataloader == compose_config(CONFIGS / config, more).val_dataloader
        )
    with pytest.raises(UserError, match='did you mean .*dataset.split'):
        compose_config(CONFIGS / config, ['test_dataloader.dataset.spllit=1'])


def test_of_a_packed_data_set_nothing_is_said_in_vain():
    config = CONFIGS / 'segmentation/unet-r18_lidc.py'
    place = 'train_dataloader.dataset'
    with pytest.raises(UserError, match='has no "train_data.*pipeline'):
        compose_config(config, {f'{place}.pipeline': [1]})
    with pytest.raises(UserError, match='dataset.dataset.split twice'):
        compose_config(config, [f'{place}.dataset.split=val', f'{place}.split=train'])


def test_words_exchange_networks_before_dotted_options():
    cfg = compose_config(
        CONFIGS / 'hybrid_wrn50_mbv2.py',
        [
            'student=resnet8',
            'model.architecture.backbone.depth=14',
            'classes=[A,B,C]',
            'teacher=resnet152',
        ],
    )
    assert cfg.model.architecture.backbone.depth == 14
    assert cfg.model.architecture.head.num_classes == 3
    assert cfg.model.teacher.model_name == 'resnet152'
    assert cfg.teacher_config == 'teachers/resnet152_skin.py'
