# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What makes one trained run stand for another, and what does not."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny import make_class_folders

from hkd_mm.config.compose import compose_config, load_config
from hkd_mm.config.data_summary import summarize_data
from hkd_mm.config.networks import config_root
from hkd_mm.training.fingerprint import RunFingerprint, settings
from hkd_mm.training.run_notes import STATE, read_begun, write_begun

CONFIG = config_root() / 'teachers/wrn50_ham10000.py'


def of(*options, config=CONFIG):
    return RunFingerprint(settings(compose_config(config, list(options))))


@pytest.fixture(scope='module')
def plain():
    return of()


@pytest.mark.parametrize(
    'option',
    [
        'optim_wrapper.optimizer.fused=False',
        'optim_wrapper.optimizer.foreach=True',
        'train_dataloader.num_workers=0',
        'val_dataloader.batch_size=3',
        'default_hooks.logger.interval=3',
        'randomness.deterministic=True',
        'device=cpu',
        'work_dir=elsewhere',
        'compiled=True',
        'channels_last=False',
        'packed=True',
        'packed=True packed.store_dir=elsewhere packed.hair_removal=False',
    ],
)
def test_where_and_how_fast_it_runs_makes_no_other_run(option, plain):
    other = of(*option.split())
    assert plain.difference(other) is None
    assert other.digest == plain.digest


@pytest.mark.parametrize(
    'option, said',
    [
        ('input_size=64', 'input size 64 here, 116 there'),
        ('batch_size=32', 'batch size of all processes 32 here, 64 there'),
        ('max_epochs=3', 'max_epochs 3 here, 100 there'),
        ('seed=1', 'seed 1 here, 42 there'),
        ('sampler=balanced', 'sampler.type hkd_mm.BalancedSampler here'),
        ('patience=3', 'hooks.0.patience 3 here, 100 there'),
        # a start from scratch warms up as well; the first difference counts
        ('pretrained=False', 'optim_wrapper.clip_grad {"max_norm": 5.0} he'),
        ('model.pretrained=False', 'model.pretrained false here, true there'),
        (
            'optim_wrapper.optimizer.lr=0.3',
            'optim_wrapper.optimizer.lr 0.3 here, 0.05 there',
        ),
        (
            'optim_wrapper.type=hkd_mm.Other',
            'optim_wrapper.type hkd_mm.Other here, none there',
        ),
        ('param_scheduler=None', 'param_scheduler [] here, [{'),
        (
            'data_preprocessor.mean=[1,127.5,127.5]',
            'input normalisation.mean.0 1 here, 127.5 there',
        ),
        ('packed.margin=1.1', 'input packed.margin 1.1 here, none there'),
        (
            'packed.hair_removal=True',
            'input packed.hair_removal true here, none there',
        ),
        (
            'packed.num_views=3',
            'input normalisation.num_views 3 here, none there',
        ),
        (
            'class_weight=[1,1,1,1,1,1,2]',
            'model.loss.class_weight [1, 1, 1, 1, 1, 1, 2] here, none there',
        ),
        (
            'default_hooks.checkpoint.save_best=top1',
            'selection save_best top1 here, balanced_accuracy there',
        ),
        ('train_cfg.val_interval=2', 'selection val_interval 2 here, 1'),
        ('load_from=https://x/y.pth', 'weights it starts from https://x/y'),
        ('auto_scale_lr.enable=True', 'auto_scale_lr 64 here, none there'),
    ],
)
def test_each_difference_is_named(option, said, plain):
    other = of(option)
    assert other.difference(plain).startswith(said)
    assert other.digest != plain.digest


def test_precision_makes_no_other_run(plain):
    cfg = compose_config(CONFIG)
    cfg.optim_wrapper.update(
        type='AmpOptimWrapper', dtype='bfloat16', loss_scale='dynamic'
    )
    assert RunFingerprint(settings(cfg)).difference(plain) is None


def test_a_note_of_another_kind_is_another_run(plain):
    assert plain.difference(RunFingerprint({})).startswith('input {')


def test_weights_are_told_by_what_is_in_the_file(tmp_path):
    config = config_root() / 'hybrid_wrn50_mbv2.py'
    paths = [tmp_path / name for name in ('a.pth', 'b.pth', 'c.pth')]
    torch.save(dict(x=1), paths[0])
    shutil.copy(paths[0], paths[1])
    torch.save(dict(x=2), paths[2])
    a, b, c = (of(f'model.teacher_ckpt={path}', config=config) for path in paths)
    assert a.difference(b) is None
    assert a.difference(c).startswith('model.teacher_ckpt ')


def with_data(config, *options):
    cfg = load_config(config, list(options))
    return RunFingerprint.of(cfg, summarize_data(cfg))


def test_data_are_told_by_split_classes_and_files(tiny_configs, tmp_path):
    config = tiny_configs['teacher']
    here = with_data(config)
    copied = shutil.copytree(compose_config(config).data_root, tmp_path / 'copy')
    assert here.difference(with_data(config, f'data_root={copied}')) is None
    said = here.difference(with_data(config, 'split_seed=7'))
    assert said.startswith('split (images, labels or parts) ')
    # the same names and labels: other photographs all the same
    large = make_class_folders(tmp_path / 'large', size=32)
    said = here.difference(with_data(config, f'data_root={large}'))
    assert said.startswith('content of the image files ')
    more = make_class_folders(tmp_path / 'more', per_class=16)
    assert 'split' in here.difference(with_data(config, f'data_root={more}'))


def test_what_is_gone_on_with_is_the_run_that_began(plain, tmp_path):
    assert plain.resumed(of()) == plain
    longer = of('max_epochs=200')
    gone_on = longer.resumed(plain)
    for other in (longer, plain):
        assert gone_on.difference(other) is not None
    write_begun(str(tmp_path), gone_on)
    assert read_begun(tmp_path) == gone_on
    said = longer.difference(longer.resumed(None))
    assert said == 'run it was resumed from none here, unknown there'
    Path(tmp_path, STATE).write_text('{"fingerprint":')
    assert read_begun(tmp_path) is None
