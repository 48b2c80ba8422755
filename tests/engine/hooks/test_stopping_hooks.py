# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hooks that stop a run: of losses, of teachers, early; and what they are given."""

from types import SimpleNamespace

import pytest
import torch

from hkd_mm.engine.hooks.checkpoint_hooks import SafeCheckpointHook
from hkd_mm.engine.hooks.data_hooks import WindowCheckHook
from hkd_mm.engine.hooks.distill_hooks import DistillDiagnosticsHook, LossScheduleHook
from hkd_mm.engine.hooks.log_hooks import FiniteLossHook
from hkd_mm.engine.hooks.teacher_hooks import TeacherCheckHook
from hkd_mm.engine.hooks.training_hooks import CompileHook, ResumableEarlyStoppingHook
from hkd_mm.errors import UserError
from hkd_mm.evaluation.segmentation_metric import SegmentationMetric
from hkd_mm.structures.mask_samples import MaskSamples


@pytest.mark.parametrize('value', [0, -1, 1.5, '3', True, float('nan'), None])
@pytest.mark.parametrize(
    'hook, name, given',
    [
        (WindowCheckHook, 'num_images', {}),
        (TeacherCheckHook, 'num_images', {}),
        (FiniteLossHook, 'interval', {}),
        (DistillDiagnosticsHook, 'interval', {}),
        (ResumableEarlyStoppingHook, 'patience', dict(monitor='a', rule='less')),
        (LossScheduleHook, 'until', dict(loss='loss_a', end=0.0)),
        (SafeCheckpointHook, 'interval', {}),
        (SafeCheckpointHook, 'max_keep_ckpts', {}),
    ],
)
def test_what_is_no_count_is_refused(hook, name, given, value):
    if hook is SafeCheckpointHook and value == -1:
        assert hook(**{name: value})
        return
    with pytest.raises(UserError, match=f'{hook.__name__}: {name}: ') as caught:
        hook(**{name: value}, **given)
    assert '\n' not in str(caught.value)
    assert hook(**{name: 2}, **given)


@pytest.mark.parametrize(
    'given, words',
    [
        (dict(mode='fast'), "mode: .* should be 'default', 'reduce"),
        (dict(backend='gcc'), "backend='gcc' must be one of .*inductor"),
    ],
)
def test_unknown_ways_of_compiling_are_refused(given, words):
    with pytest.raises(UserError, match=words):
        CompileHook(**given)


def look(iteration, length=100, **losses):
    runner = SimpleNamespace(epoch=2, train_dataloader=range(length))
    FiniteLossHook(interval=10).after_train_iter(
        runner,
        iteration,
        None,
        {name: torch.tensor(value) for name, value in losses.items()},
    )


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_the_guilty_part_is_named(value):
    with pytest.raises(UserError, match='loss_align became.*epoch 3'):
        look(9, loss_kd=1.0, loss_align=value)


def test_finite_losses_and_other_iterations_pass():
    look(9, loss_kd=1.0)
    look(3, loss_kd=float('nan'))  # between two looks
    with pytest.raises(UserError):
        look(4, length=5, loss_kd=float('nan'))  # the last one is looked at


def hook_of(patience=3, rule='greater'):
    return ResumableEarlyStoppingHook(
        monitor='balanced_accuracy', rule=rule, min_delta=0.0, patience=patience
    )


def runner_of(resume=False):
    return SimpleNamespace(
        _resume=resume,
        train_loop=SimpleNamespace(stop_training=False),
        logger=SimpleNamespace(info=lambda text: None),
    )


def see_scores(hook, runner, *values):
    for value in values:
        hook.after_val_epoch(runner, dict(balanced_accuracy=value))


def test_stops_after_patience_epochs_without_a_better_one():
    hook, runner = hook_of(), runner_of()
    see_scores(hook, runner, 0.5, 0.6, 0.55, 0.58)
    assert not runner.train_loop.stop_training
    see_scores(hook, runner, 0.59)
    assert runner.train_loop.stop_training


@pytest.mark.parametrize('rule', ['greater', 'less'])
def test_a_plateau_of_equal_scores_is_no_gain(rule):
    hook, runner = hook_of(rule=rule), runner_of()
    see_scores(hook, runner, 0.6, 0.6, 0.6)
    assert not runner.train_loop.stop_training and hook.wait_count == 2
    see_scores(hook, runner, 0.6)
    assert runner.train_loop.stop_training


def test_small_gains_count():
    hook, runner = hook_of(), runner_of()
    see_scores(hook, runner, *[0.5 + i / 1000 for i in range(8)])
    assert not runner.train_loop.stop_training


@pytest.mark.parametrize('resume', [True, False])
def test_count_and_best_score_survive_a_resume_only(resume):
    hook, checkpoint = hook_of(), dict()
    see_scores(hook, runner_of(), 0.6, 0.5, 0.5)
    hook.before_save_checkpoint(None, checkpoint)
    later, runner = hook_of(), runner_of(resume)
    later.after_load_checkpoint(runner, checkpoint)
    see_scores(later, runner, 0.55)
    assert runner.train_loop.stop_training is resume


class Slices:
    """Four slices with a square."""

    def __len__(self):
        return 4

    def __getitems__(self, places):
        return len(places)


def a_runner(told, scale=1.0, **loop):
    masks = torch.zeros(4, 8, 8, dtype=torch.uint8)
    masks[:, 2:5, 2:5] = 1
    logits = torch.where(masks[:, None] > 0, -1.0, -9.0)  # 0.27 and 0
    loader = SimpleNamespace(dataset=Slices(), collate_fn=lambda count: count)
    return SimpleNamespace(
        model=SimpleNamespace(
            teacher=lambda inputs, mode: logits * scale,
            teacher_ckpt='teacher.pth',
            convert_input=lambda inputs: inputs,
            data_preprocessor=lambda count, training: dict(
                inputs=None, data_samples=MaskSamples(masks, torch.arange(4))
            ),
        ),
        val_loop=SimpleNamespace(dataloader=loader, **loop),
        logger=SimpleNamespace(info=lambda line: None, warning=lambda line: None),
        message_hub=SimpleNamespace(
            update_info=lambda name, figures: told.update(figures)
        ),
    )


@pytest.mark.parametrize(('threshold', 'dice'), [(0.5, 0.0), (0.2, 1.0)])
def test_pixels_count_as_in_validation(threshold, dice):
    told = {}
    metric = SegmentationMetric(threshold)
    evaluator = SimpleNamespace(metrics=[object(), metric])
    TeacherCheckHook().before_train(a_runner(told, evaluator=evaluator))
    assert told == dict(dice=dice, images=4)


@pytest.mark.parametrize('scale', [float('nan'), float('inf')])
def test_a_teacher_whose_answers_are_no_numbers_is_named(scale):
    metric = SegmentationMetric(0.5)
    runner = a_runner({}, scale, evaluator=SimpleNamespace(metrics=[metric]))
    with pytest.raises(UserError, match='teacher answers with NaN.*teacher.pth'):
        TeacherCheckHook().before_train(runner)
