# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""SelfDistill: a network alone, from its config to a finished run."""

import copy

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

import hkd_mm  # noqa: F401
from hkd_mm.config.compose import compose_config
from hkd_mm.errors import UserError
from hkd_mm.training.tester import test as measure
from hkd_mm.training.trainer import train

RESNET8 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='hkd_mm.CIFARResNet', depth=8, out_indices=(0, 1, 2)),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64),
)
LOSSES = dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss'),
    loss_byot=dict(type='hkd_mm.BYOTLoss'),
)
CHILD = """_base_ = 'tiny_kd.py'
model = dict(
    type='hkd_mm.SelfDistill', teacher=None,
    distiller=dict(
        _delete_=True, type='mmrazor.ConfigurableDistiller',
        distill_losses=dict(
            loss_ce=dict(type='hkd_mm.HardLabelLoss', loss_weight=0.9),
            loss_tf=dict(type='hkd_mm.TfKDLoss', loss_weight=0.1))))
custom_hooks = [
    dict(type='hkd_mm.EpochSeedHook'),
    dict(type='hkd_mm.TeacherCheckHook'),
    dict(type='hkd_mm.TeacherCacheHook'),
    dict(type='hkd_mm.GuardRailsHook'),
    dict(type='hkd_mm.RunReportHook')]
"""


def build(losses=LOSSES, **kwargs):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    recorders = dict(maps=dict(type='hkd_mm.StageMaps', stages=(-3, -2, -1)))
    return MODELS.build(
        dict(
            type='hkd_mm.SelfDistill',
            input_size=32,
            data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
            architecture=copy.deepcopy(RESNET8),
            distiller=dict(
                type='mmrazor.ConfigurableDistiller',
                student_recorders=recorders,
                distill_losses=copy.deepcopy(losses),
            ),
            **kwargs,
        )
    )


def batch(n=4):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 32, 32, generator=generator)
    return images, [DataSample().set_gt_label(i % 5) for i in range(n)]


def test_its_losses_are_wired_and_built_and_logged_by_part():
    model = build().train()
    losses = model(*batch(), mode='loss')
    assert set(losses) == {
        'distill.loss_ce',
        'distill.loss_label',
        'distill.loss_self',
        'distill.loss_hint',
    }
    total, _ = model.parse_losses(losses)
    total.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert len(model.distiller.distill_losses['loss_byot'].branches) == 2


def test_there_is_no_teacher_at_all():
    model = build()
    assert not hasattr(model, 'teacher')
    assert not model.distiller.teacher_recorders.recorders
    assert {name.split('.')[0] for name in model.state_dict()} == {
        'architecture',
        'distiller',
    }


def test_predictions_are_the_networks():
    model = build().eval()
    images, samples = batch()
    predicted = model(images, samples, mode='predict')
    torch.testing.assert_close(
        torch.stack([s.pred_score for s in predicted]),
        model.student(images, mode='tensor').softmax(1),
    )


def test_the_dry_forward_leaves_no_trace():
    state = build().state_dict()
    counters = [v for k, v in state.items() if 'num_batches' in k]
    assert counters and not any(counters)


def test_its_own_loss_on_request_and_a_stop():
    model = build(calculate_student_loss=True)
    assert 'student.loss' in model(*batch(), mode='loss')
    model.distillation_stopped = True
    assert set(model(*batch(), mode='loss')) == {'student.loss'}


@pytest.mark.parametrize(
    'kwargs, said',
    [
        (dict(teacher=RESNET8), 'model.teacher is set'),
        (dict(teacher_ckpt='teacher.pth'), 'model.teacher_ckpt is set'),
        (
            dict(losses=dict(loss_kd=dict(type='hkd_mm.KLLoss'))),
            'loss_kd asks for preds_T',
        ),
        (
            dict(losses=dict(byot=dict(type='hkd_mm.BYOTLoss'))),
            'call it loss_byot',
        ),
    ],
)
def test_what_needs_a_teacher_is_refused(kwargs, said):
    with pytest.raises(UserError, match=said):
        build(**kwargs)


@pytest.fixture
def child(tiny_configs):
    path = tiny_configs['kd'].with_name('tiny_self.py')
    path.write_text(CHILD)
    return path


def test_training_trains_no_teacher_and_testing_asks_for_none(
    child, quick_runner, tmp_path, capfd
):
    done = train(str(child), str(tmp_path / 'run'), cfg_options=['max_epochs=2'])
    assert done['epoch'] == 2
    assert [p.parent.name for p in tmp_path.glob('*/run_state.json')] == ['run']
    said = capfd.readouterr()
    assert 'no teacher; student' in said.out + said.err
    found = measure(str(child), str(tmp_path / 'run' / done['checkpoint']))
    assert 0 <= found['balanced_accuracy'] <= 1


def test_a_name_for_a_teacher_it_has_not_is_refused(child):
    with pytest.raises(UserError, match='no model.teacher'):
        compose_config(child, ['teacher=resnet152'])
