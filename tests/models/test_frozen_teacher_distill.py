# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The teacher contract, clause by clause."""

import copy

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from torch import nn

import hkd_mm  # noqa: F401
from hkd_mm.errors import UserError

NORM = dict(
    type='mmpretrain.ClsDataPreprocessor',
    mean=[127.5] * 3,
    std=[127.5] * 3,
    to_rgb=True,
)
RESNET8 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='hkd_mm.CIFARResNet', depth=8),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64),
)


def timm_network(name='resnet18', **kwargs):
    return dict(
        type='hkd_mm.TimmClassifier',
        model_name=name,
        num_classes=5,
        pretrained=False,
        **kwargs,
    )


def config(teacher=None, student=None, **kwargs):
    """A Hybrid KD config; keywords go to the algorithm."""
    networks = dict(
        logits=dict(type='hkd_mm.Logits'), feature=dict(type='hkd_mm.Feature')
    )
    return dict(
        type='hkd_mm.FrozenTeacherDistill',
        input_size=32,
        data_preprocessor=copy.deepcopy(NORM),
        architecture=student or copy.deepcopy(RESNET8),
        teacher=teacher or timm_network(),
        distiller=dict(
            type='mmrazor.ConfigurableDistiller',
            student_recorders=dict(networks, labels=dict(type='hkd_mm.GTLabels')),
            teacher_recorders=networks,
            connectors=dict(align=dict(type='hkd_mm.FeatureAlignConnector')),
            distill_losses=dict(loss_hybrid=dict(type='hkd_mm.HybridKDLoss')),
            loss_forward_mappings=dict(
                loss_hybrid=dict(
                    preds_S=dict(recorder='logits', from_student=True),
                    preds_T=dict(recorder='logits', from_student=False),
                    gt_labels=dict(recorder='labels', from_student=True),
                    s_feature=dict(
                        recorder='feature',
                        from_student=True,
                        connector='align',
                    ),
                    t_feature=dict(recorder='feature', from_student=False),
                )
            ),
        ),
        **kwargs,
    )


def build(cfg):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    return MODELS.build(cfg)


def batch(n=4):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 32, 32, generator=generator)
    return images, [DataSample().set_gt_label(i % 5) for i in range(n)]


def test_loss_parts_are_logged_apart_and_sum_to_the_total():
    model = build(config())
    losses = model(*batch(), mode='loss')
    assert set(losses) == {
        'distill.loss_kd',
        'distill.loss_ce',
        'distill.loss_align',
    }
    total, logged = model.parse_losses(losses)
    assert total.item() == pytest.approx(sum(v.item() for v in losses.values()))
    assert 'distill.loss_kd' in logged


def test_teacher_stays_in_eval_with_its_dropout_off():
    teacher = timm_network('mobilenetv2_050', drop_rate=0.5, drop_path_rate=0.5)
    model = build(config(teacher=teacher))
    assert model.train() is model
    assert model.training and model.student.training
    assert not any(m.training for m in model.teacher.modules())
    images, samples = batch()

    def teacher_logits():
        model(images, samples, mode='loss')
        return model.distiller.get_record('logits', False).clone()

    assert torch.equal(teacher_logits(), teacher_logits())


def test_a_training_step_leaves_every_tensor_of_the_teacher_alone():
    model = build(config()).train()
    before = copy.deepcopy(model.teacher.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        total, _ = model.parse_losses(model(*batch(), mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.teacher.parameters())
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_teacher_is_in_no_state_dict_no_parameter_list_but_follows_to():
    model = build(config())
    teacher = {id(p) for p in model.teacher.parameters()}
    assert not teacher & {id(p) for p in model.parameters()}
    assert all(
        key.startswith(('architecture.', 'distiller.')) for key in model.state_dict()
    )
    model.to(torch.float64)
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float64}


def test_predict_and_tensor_are_the_students():
    model = build(config()).eval()
    images, samples = batch()
    torch.testing.assert_close(
        model(images, mode='tensor'), model.student(images, mode='tensor')
    )
    predicted = model(images, samples, mode='predict')
    expected = model.student(images, mode='tensor').softmax(1)
    torch.testing.assert_close(torch.stack([s.pred_score for s in predicted]), expected)


def test_teacher_sees_images_in_its_own_statistics():
    own = dict(
        type='mmpretrain.ClsDataPreprocessor',
        mean=[100.0, 110.0, 120.0],
        std=[50.0, 60.0, 70.0],
        to_rgb=False,
    )
    teacher = timm_network(data_preprocessor=own)
    model = build(config(teacher=teacher)).eval()
    raw = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    student_view = model.data_preprocessor(dict(inputs=raw.clone()))['inputs']
    teacher_view = model.teacher.data_preprocessor(dict(inputs=raw.clone()))['inputs']
    torch.testing.assert_close(
        model.convert_input(student_view), teacher_view, rtol=0, atol=1e-5
    )


def test_teacher_without_statistics_takes_the_images_as_they_are():
    model = build(config())
    images, _ = batch()
    assert model.convert_input(images) is images


@pytest.mark.parametrize(
    'teacher, student, shape',
    [
        (timm_network('resnet18'), RESNET8, (512, 64)),
        (RESNET8, timm_network('mobilenetv2_050'), (64, 160)),
    ],
)
def test_connector_finds_the_channels_by_itself(teacher, student, shape):
    model = build(
        config(teacher=copy.deepcopy(teacher), student=copy.deepcopy(student))
    )
    weight = model.distiller.connectors['align'].project.weight
    assert weight.shape[:2] == shape
    assert weight.requires_grad
    loss = model(*batch(), mode='loss')['distill.loss_align']
    loss.backward()
    assert weight.grad.abs().sum() > 0


def test_checkpoint_of_the_teacher_is_loaded_strictly(tmp_path):
    source = build(timm_network())
    nn.init.constant_(source.model.fc.bias, 3.0)
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=source.state_dict()), path)
    model = build(config(teacher_ckpt=str(path)))
    assert model.teacher.model.fc.bias.eq(3.0).all()
    with pytest.raises(UserError, match='another network'):
        build(config(teacher=timm_network('resnet34'), teacher_ckpt=str(path)))
    other = dict(timm_network(), num_classes=7)
    with pytest.raises(UserError, match='trained for 5 classes'):
        build(config(teacher=other, teacher_ckpt=str(path)))


def test_a_distilled_student_can_teach(tmp_path):
    first = build(config(student=timm_network()))
    path = tmp_path / 'run.pth'
    torch.save(dict(state_dict=first.state_dict()), path)
    second = build(config(teacher=timm_network(), teacher_ckpt=str(path)))
    for name, value in first.student.state_dict().items():
        if 'num_batches' not in name:
            assert torch.equal(value, second.teacher.state_dict()[name])


def test_a_loss_name_that_trains_nothing_is_refused():
    cfg = config()
    distiller = cfg['distiller']
    for key in ('distill_losses', 'loss_forward_mappings'):
        distiller[key] = dict(hybrid=distiller[key]['loss_hybrid'])
    with pytest.raises(UserError, match='call it loss_hybrid'):
        build(cfg)


def test_dry_forward_leaves_no_trace():
    model = build(config(student=timm_network('mobilenetv2_050')))
    counters = [v for k, v in model.student.state_dict().items() if 'num_batches' in k]
    assert counters and all(v == 0 for v in counters)
    assert model.training


def test_the_students_own_loss_on_request():
    model = build(config(calculate_student_loss=True))
    losses = model(*batch(), mode='loss')
    assert 'student.loss' in losses and 'distill.loss_kd' in losses


def test_parts_of_weight_zero_leave_no_connector_and_no_unused_parameter():
    for alpha, beta in ((1.0, 0.0), (0.85, 0.0), (1.0, 0.02), (0.85, 0.02)):
        cfg = config()
        cfg['distiller']['distill_losses']['loss_hybrid'].update(alpha=alpha, beta=beta)
        model = build(cfg)
        assert ('align' in model.distiller.connectors) == (beta > 0)
        assert ('feature' in model.cached_recorders()) == (beta > 0)
        total, _ = model.parse_losses(model(*batch(), mode='loss'))
        total.backward()
        assert all(p.grad is not None for p in model.parameters())


def test_statistics_that_the_teachers_checkpoint_remembers(tmp_path):
    path = tmp_path / 'teacher.pth'
    own = dict(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0], to_rgb=True)
    torch.save(
        dict(
            state_dict=build(timm_network()).state_dict(),
            meta=dict(data_preprocessor=own),
        ),
        path,
    )
    model = build(config(teacher_ckpt=str(path)))
    raw = torch.rand(2, 3, 8, 8) * 255
    mean, std = (torch.tensor(own[k]).view(3, 1, 1) for k in ('mean', 'std'))
    torch.testing.assert_close(
        model.convert_input((raw - 127.5) / 127.5),
        (raw - mean) / std,
        rtol=0,
        atol=1e-5,
    )
