# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Early stopping counts ties, and counts on after a resume."""

from types import SimpleNamespace

import pytest

from hkd_mm.config.compose import load_config
from hkd_mm.config.networks import config_root
from hkd_mm.engine.hooks.training_hooks import ResumableEarlyStoppingHook


def hook_of(patience=3, rule='greater'):
    return ResumableEarlyStoppingHook(
        monitor='balanced_accuracy',
        rule=rule,
        min_delta=0.0,
        patience=patience,
    )


def runner_of(resume=False):
    return SimpleNamespace(
        _resume=resume,
        train_loop=SimpleNamespace(stop_training=False),
        logger=SimpleNamespace(info=lambda text: None),
    )


def see(hook, runner, *values):
    for value in values:
        hook.after_val_epoch(runner, dict(balanced_accuracy=value))


def test_stops_after_patience_epochs_without_a_better_one():
    hook, runner = hook_of(), runner_of()
    see(hook, runner, 0.5, 0.6, 0.55, 0.58)
    assert not runner.train_loop.stop_training
    see(hook, runner, 0.59)
    assert runner.train_loop.stop_training


@pytest.mark.parametrize('rule', ['greater', 'less'])
def test_a_plateau_of_equal_scores_is_no_gain(rule):
    hook, runner = hook_of(rule=rule), runner_of()
    see(hook, runner, 0.6, 0.6, 0.6)
    assert not runner.train_loop.stop_training and hook.wait_count == 2
    see(hook, runner, 0.6)
    assert runner.train_loop.stop_training


def test_small_gains_count():
    hook, runner = hook_of(), runner_of()
    see(hook, runner, *[0.5 + i / 1000 for i in range(8)])
    assert not runner.train_loop.stop_training


@pytest.mark.parametrize('resume', [True, False])
def test_count_and_best_score_survive_a_resume_only(resume):
    hook, checkpoint = hook_of(), dict()
    see(hook, runner_of(), 0.6, 0.5, 0.5)
    hook.before_save_checkpoint(None, checkpoint)
    later, runner = hook_of(), runner_of(resume)
    later.after_load_checkpoint(runner, checkpoint)
    see(later, runner, 0.55)
    assert runner.train_loop.stop_training is resume


def test_patience_comes_from_the_config():
    cfg = load_config(
        config_root() / 'students' / 'resnet8_skin.py',
        ['patience=7'],
        read_data=False,
    )
    assert cfg.default_hooks.early_stopping.patience == 7
