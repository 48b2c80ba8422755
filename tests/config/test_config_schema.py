# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Values of the wrong kind or out of range: one line that names the key."""

import os
from pathlib import Path

import pytest

from hkd_mm.config.compose import compose_config, read_config
from hkd_mm.config.schema import check_config, nodes
from hkd_mm.config.value_checks import check_values
from hkd_mm.errors import UserError
from hkd_mm.io.schema import plain

CONFIG = Path(__file__).parents[2] / 'configs/students/mbv2_skin.py'
OPTIONS = """
model=[] | model=3 | train_cfg=3 | train_cfg.max_epochs=0 | train_cfg.max_epochs=1.5
train_cfg.max_epochs=1e30 | train_cfg.val_interval=0 | train_cfg.val_begin=x
optim_wrapper=[] | optim_wrapper.optimizer=5 | optim_wrapper.optimizer.lr=fast
optim_wrapper.optimizer.lr=nan | optim_wrapper.optimizer.lr=inf
optim_wrapper.optimizer.lr=-1 | optim_wrapper.clip_grad=5
optim_wrapper.clip_grad.max_norm=-1 | optim_wrapper.clip_grad.max_norm=nan
optim_wrapper.clip_grad.foo=1 | optim_wrapper.accumulative_counts=0
train_dataloader=3 | train_dataloader.dataset=None | train_dataloader.batch_size=0
train_dataloader.batch_size=a | train_dataloader.num_workers=100000
train_dataloader.prefetch_factor=0 | train_dataloader.prefetch_factor=1000000000
train_dataloader.timeout=-1 | train_dataloader.persistent_workers=3
train_dataloader.dataset.type= | val_dataloader.batch_size=-2 | val_evaluator=3
param_scheduler=5 | param_scheduler=[5] | custom_hooks=x | custom_hooks=5
custom_hooks=[5] | default_hooks=5 | default_hooks.checkpoint=5 | default_hooks.x=3
auto_scale_lr.base_batch_size=-64 | auto_scale_lr.base_batch_size=0
randomness.seed=-1 | randomness.seed=1.5 | randomness.seed=4294967296
randomness.deterministic=x | env_cfg=5 | env_cfg.mp_cfg.mp_start_method=foo
log_level=loud | experiment_name=a/b | sync_bn=x | resume=5 | launcher=x
data_preprocessor=5 | data_preprocessor.std=[0,1,1] | data_preprocessor.mean=[nan,1,1]
data_preprocessor.num_views=-1 | default_scope=5 | visualizer=5
max_epochs=0 | max_epochs=-1 | max_epochs=1.5 | max_epochs=x | max_epochs=1e30
max_epochs=nan | max_epochs=[1] | max_epochs=True | batch_size=0 | batch_size=-2
batch_size='a' | batch_size=99999999999999999999 | input_size=0 | input_size=1.5
input_size=[3,4] | input_size=99999999999 | seed=-1 | seed=True | seed=99999999999
split_seed=-1 | split_ratios=5 | split_ratios=None | split_ratios=[0.8,nan,0.1]
split_ratios=[a,b,c] | class_weight=[1,2,inf] | class_weight=[0,0] | class_weight=5
class_weight=[[1],2] | patience=0 | sampler=5 | augment=5 | augment=[5] | device=gpu
pretrained=5 | packed=5 | packed.num_views=-1 | packed.num_views=0 | packed.margin=x
packed.margin=nan | packed.margin=inf | packed.margin=0.5 | packed.margin=None
packed.seed=-1 | packed.in_memory=5 | packed.top_up=100000000000 | packed.augment=5
packed.hair_removal=5 | packed.foo=1 | data_root= | dataset_type= | teacher_config=
custom_hooks.99.type=5 | custom_hooks.-1.type=5 | a=b=c | = | =3 | x | lr=5 | .a=3
model.=3 | model..type=x | ..=3 | model. head=3 | max_epochs
"""
OPTIONS = [part.strip() for line in OPTIONS.splitlines() for part in line.split('|')]
ODD = ['data_root=\0', 'work_dir=a\0b', '\udcff=3', 'max_epochs=' + '9' * 5000]
ODD += [f'{word}=' + '[' * 3000 + ']' * 3000 for word in ('classes', 'split_ratios')]


@pytest.mark.parametrize('option', [*filter(None, OPTIONS), *ODD])
def test_one_line_names_the_key(option):
    with pytest.raises(UserError) as caught:
        compose_config(CONFIG, [option])
    line = str(caught.value)
    assert option.partition('=')[0].split('.')[-1] in line and '\n' not in line


@pytest.mark.parametrize(
    'option',
    [
        'optim_wrapper.clip_grad.norm_type=inf',
        'data_root=\udcff',
        'class_weight=[1,2.5]',
        'packed.top_up=largest',
        'seed=None',
        'custom_hooks=None',
        'train_dataloader.num_workers=256',
        'param_scheduler=None',
    ],
)
def test_what_is_right_passes(option):
    options = ['optim_wrapper.clip_grad.max_norm=5', option]
    assert compose_config(CONFIG, options).optim_wrapper.clip_grad.max_norm == 5


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('train_dataloader.dataset.verify=3', 'train_dataloader.dataset.verify'),
        ('default_hooks.logger.interval=1.5', 'default_hooks.logger.interval'),
        ('train_dataloader.prefetch_factor=2', 'num_workers >= 1'),
        ('train_dataloader=None', 'no train_dataloader'),
        ('optim_wrapper=None', 'no optim_wrapper'),
    ],
)
def test_constructors_say_what_they_take(option, words):
    cfg = compose_config(CONFIG)
    check_values(cfg, 'cpu')
    with pytest.raises(UserError, match=words):
        check_values(compose_config(CONFIG, [option]), 'cpu')


def test_every_file_is_read_or_refused_in_one_line(tmp_path):
    (tmp_path / 'folder.py').mkdir()
    os.mkfifo(tmp_path / 'fifo.py')
    (tmp_path / 'loop.py').write_text("_base_ = 'loop.py'\n")
    (tmp_path / 'base.py').write_text("_base_ = 'no_such.py'\n")
    (tmp_path / 'syntax.py').write_text('model = dict(\n')
    (tmp_path / 'raises.py').write_text("raise RuntimeError('a\\nb')\n")
    (tmp_path / 'exits.py').write_text('raise SystemExit(0)\n')
    (tmp_path / 'binary.py').write_bytes(bytes(range(256)))
    (tmp_path / 'text.txt').write_text('model = 3\n')
    names = [path.name for path in tmp_path.iterdir()]
    paths = [*(str(tmp_path / name) for name in names), '/dev/null', '/proc/self/mem']
    for path in [*paths, 'no\0thing.py', '']:
        with pytest.raises(UserError) as caught:
            read_config(path)
        assert '\n' not in str(caught.value), path
    assert len(names) == 9


def test_a_file_with_wrong_values_is_refused(tmp_path):
    path = tmp_path / 'c.py'
    for text in ('model = []', 'train_cfg = 3', 'custom_hooks = dict(type="x")'):
        path.write_text(text)
        with pytest.raises(UserError, match=f'config {path}: {text.split()[0]}: '):
            compose_config(path)


_STEP = dict(type='StepLR', step_size=1)
_SGD = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
_TWO = dict(_delete_=True, a=_SGD, b=_SGD, constructor='X')


@pytest.mark.parametrize(
    'values',
    [
        dict(param_scheduler=_STEP),
        dict(param_scheduler=[_STEP, _STEP]),
        dict(
            optim_wrapper=_TWO,
            param_scheduler=dict(_delete_=True, a=[_STEP], b=_STEP),
        ),
        dict(train_dataloader=dict(sampler=None, shuffle=True)),
        dict(train_dataloader=dict(disable_subprocess_warning=True)),
        dict(log_level=20),
        dict(train_pipeline=[dict(type='MultiView', num_views=[2, 6])]),
        dict(log_level='WARN'),
    ],
)
def test_what_mmengine_takes_passes(values, tmp_path):
    path = tmp_path / 'c.py'
    lines = [f'_base_ = {str(CONFIG)!r}', *(f'{k} = {v!r}' for k, v in values.items())]
    path.write_text('\n'.join(lines))
    cfg = compose_config(path, ['pretrained=False', 'max_epochs=2'])
    check_values(cfg, 'cpu')
    assert ('optim_wrapper' in values) is ('a' in cfg.param_scheduler)
    if 'optim_wrapper' not in values:  # one optimizer, warmed up
        assert cfg.param_scheduler[0].type == 'LinearLR'


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        (dict(begin=0), 'param_scheduler.0.type'),
        (dict(a=[_STEP], b=[5]), 'param_scheduler.1'),
        (dict(a=dict(_STEP, end=0)), 'param_scheduler.0.end'),
        ({}, 'param_scheduler.0.type'),
    ],
)
def test_schedules_of_several_optimizers_are_checked(value, words, tmp_path):
    path, value = tmp_path / 'c.py', dict(value, _delete_=True)
    path.write_text(f'_base_ = {str(CONFIG)!r}\nparam_scheduler = {value!r}\n')
    with pytest.raises(UserError, match=words):
        compose_config(path)


def test_numbers_of_networks_upstream_are_looser_than_their_annotations():
    cfg = compose_config(CONFIG)
    step = dict(type='RandAugment', policies=[], num_policies=2, magnitude_level=2.1)
    cfg.test_dataloader.dataset.pipeline = [step]  # annotated int
    check_values(cfg, 'cpu')
    step['magnitude_level'] = 'two'
    cfg.test_dataloader.dataset.pipeline = [step]
    with pytest.raises(UserError, match='pipeline.0.magnitude_level'):
        check_values(cfg, 'cpu')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ("pretrained = 'https://x'\nload_from = pretrained", None),
        ('mask_threshold = 9\nmine = dict(threshold=mask_threshold)', None),
        ("pretrained = 'https://x'", 'pretrained: Input should be a valid boolean'),
        ('mask_threshold = 0.3', 'mask_threshold=0.3 would change nothing'),
        ('batch_size = 7\nmine = dict(size=batch_size)', 'batch_size = 7 stands'),
    ],
)
def test_a_variable_of_a_file_is_no_word(text, words, tmp_path):
    path, base = tmp_path / 'c.py', tmp_path / 'base.py'
    path.write_text(f'_base_ = {str(CONFIG)!r}\n{text}\n')
    base.write_text(f'_base_ = {str(path)!r}\n')
    if words is None:
        assert compose_config(path) and compose_config(base)
        return
    with pytest.raises(UserError, match=words):
        compose_config(path)


@pytest.mark.parametrize(
    'text',
    [
        "max_epochs = '\\ud800'",
        "max_epochs = 'x'",
        "classes = '\\ud800'",
        'classes = [1]',
        'batch_size = -1',
        'seed = True',
        'input_size = [3]',
        "split_ratios = [0.8, 'a']",
    ],
)
def test_a_word_of_a_file_is_checked_before_it_is_carried(text, tmp_path):
    path = tmp_path / 'c.py'
    path.write_text(f'_base_ = {str(CONFIG)!r}\n{text}\n')
    with pytest.raises(UserError) as caught:
        compose_config(path)
    line = str(caught.value)
    assert text.split()[0] in line and '\n' not in line


def test_values_keep_their_bytes():
    value = dict(a=('\udcff', 'é'), b=[dict(type=UserError)])
    assert plain(value) == dict(
        a=['\udcff', 'é'], b=[dict(type='hkd_mm.errors.UserError')]
    )
    assert plain('\udcff', 'replace') == '?'
    assert [place for place, _ in nodes(plain(value))] == ['b.0']


def test_a_word_for_all_of_a_group_is_checked_like_its_parts():
    with pytest.raises(UserError, match='packed.margin'):
        compose_config(CONFIG, dict(packed=dict(margin='x')))
    check_config(compose_config(CONFIG, dict(packed=dict(margin=1.25))))
