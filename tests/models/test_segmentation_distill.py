# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A segmentor is distilled into another by the same distiller."""

import copy

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from hkd_mm.engine.student_export import export_student, student_config
from hkd_mm.engine.student_loading import load_student
from hkd_mm.errors import UserError
from hkd_mm.models.algorithms.teacher_precision import InputConversion
from hkd_mm.structures.mask_samples import MaskSamples

pytest.importorskip('segmentation_models_pytorch')
SIDE = 64
LABEL = dict(loss_seg=dict(type='hkd_mm.DiceBCELoss'))
PIXELS = dict(loss_kd=dict(type='hkd_mm.PixelKLLoss'))
METHODS = dict(
    kd=PIXELS,
    kd_align=dict(PIXELS, loss_align=dict(type='hkd_mm.FitNetLoss')),
    cwd=dict(loss_cwd=dict(type='hkd_mm.CWDLoss', loss_weight=50.0)),
    at=dict(loss_at=dict(type='hkd_mm.ATLoss')),
)
NORM = dict(
    type='hkd_mm.PackedMaskPreprocessor',
    window=(600.0, 1500.0),
    mean=[100.0],
    std=[50.0],
    augment=[dict(type='hkd_mm.HorizontalFlip')],
    num_views=3,
)


def segmentor(encoder='resnet18', classes=1, **kwargs):
    return dict(
        type='hkd_mm.SMPSegmentor',
        encoder_name=encoder,
        num_classes=classes,
        **kwargs,
    )


def distillation(losses, classes=1, **kwargs):
    return dict(
        dict(
            type='hkd_mm.FrozenTeacherDistill',
            input_size=SIDE,
            architecture=segmentor(classes=classes, pretrained=True),
            teacher=segmentor('resnet34', classes),
            distiller=dict(
                type='mmrazor.ConfigurableDistiller',
                distill_losses=dict(LABEL, **losses),
            ),
        ),
        **kwargs,
    )


def build(config):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    return MODELS.build(copy.deepcopy(config))


def batch(classes=1):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 1, SIDE, SIDE, generator=generator)
    masks = torch.randint(0, max(classes, 2), (2, SIDE, SIDE), generator=generator)
    masks[:, :4] = 255
    return images, MaskSamples(masks.to(torch.uint8), torch.arange(2))


@pytest.mark.parametrize(
    'method, classes',
    [('kd', 1), ('kd', 3), ('kd_align', 1), ('cwd', 1), ('at', 1)],
)
def test_one_step_of_training(method, classes):
    model = build(distillation(METHODS[method], classes)).train()
    before = copy.deepcopy(model.teacher.state_dict())
    losses = model(*batch(classes), mode='loss')
    parts = {f'distill.{name}' for name in METHODS[method]}
    assert set(losses) == {'distill.loss_bce', 'distill.loss_dice', *parts}
    assert all(value.isfinite() and value > 0 for value in losses.values())
    total, _ = model.parse_losses(losses)
    total.backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in model.parameters()
    )
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert all(p.grad is None for p in model.teacher.parameters())
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_class_scores_can_be_compared_channel_by_channel():
    sides = dict(s_feature=True, t_feature=False)
    config = distillation(METHODS['cwd'], 3)
    config['distiller']['loss_forward_mappings'] = dict(
        loss_cwd={
            word: dict(recorder='logits', from_student=student)
            for word, student in sides.items()
        }
    )
    model = build(config).train()
    assert not list(model.distiller.parameters())
    assert model(*batch(3), mode='loss')['distill.loss_cwd'] > 0


def test_a_loss_for_whole_images_is_refused():
    losses = dict(loss_kd=dict(type='hkd_mm.KLLoss'))
    model = build(distillation(losses))
    with pytest.raises(UserError, match='hkd_mm.PixelKLLoss'):
        model(*batch(), mode='loss')


def test_the_students_own_loss_on_request():
    config = distillation(METHODS['kd'], calculate_student_loss=True)
    losses = build(config)(*batch(), mode='loss')
    assert {'student.loss_bce', 'student.loss_dice'} < set(losses)


def test_predictions_are_the_students():
    model = build(distillation(METHODS['kd'])).eval()
    images, samples = batch()
    (predicted,) = model(images, samples, mode='predict')
    torch.testing.assert_close(
        predicted['batch_probabilities'],
        model.student(images, mode='tensor').sigmoid(),
    )


def test_a_checkpoint_has_no_teacher_and_is_resumed_strictly():
    config = distillation(METHODS['kd_align'])
    model = build(config)
    state = model.state_dict()
    assert all(
        key.startswith(('architecture.model.', 'distiller.connectors.'))
        for key in state
    )
    torch.manual_seed(9)
    again = MODELS.build(copy.deepcopy(config))
    again.load_state_dict(state, strict=True)
    for name, value in again.state_dict().items():
        assert torch.equal(value, state[name])


def test_folding_and_a_teacher_of_its_own_statistics():
    teacher = segmentor(
        'resnet34',
        data_preprocessor=dict(NORM, mean=[80.0], std=[20.0]),
    )
    model = build(
        distillation(
            METHODS['kd'],
            data_preprocessor=NORM,
            teacher=teacher,
            teacher_inference=dict(fold_bn=True),
        )
    )
    images, samples = batch()
    model(images, samples, mode='loss')
    found = model.distiller.get_record('logits', False)
    own = (images * 50.0 + 100.0 - 80.0) / 20.0
    with torch.no_grad():
        expected = model.teacher(own)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_statistics_of_one_channel():
    norm = MODELS.build(NORM)
    other = dict(mean=[80.0], std=[25.0], to_rgb=True, window=[600, 1500])
    images = torch.randn(2, 1, 4, 4)
    bare = torch.nn.Module()
    torch.testing.assert_close(
        InputConversion(norm, bare, other)(images), images * 2 + 0.8
    )
    assert InputConversion(norm, bare)(images) is images
    found = InputConversion(bare, norm)(images)
    torch.testing.assert_close(found, (images - 100) / 50)


def test_a_teacher_of_another_window_is_refused():
    norm, bare = MODELS.build(NORM), torch.nn.Module()
    for window in (None, [500.0, 1500.0]):
        other = dict(mean=[100.0], std=[50.0], to_rgb=True, window=window)
        with pytest.raises(UserError, match='window'):
            InputConversion(norm, bare, other)


def test_the_student_is_exported_and_loaded_again(tmp_path):
    config = distillation(METHODS['kd'], data_preprocessor=NORM)
    model = build(config).eval()
    stored = student_config(config)
    assert stored['pretrained'] is False
    assert stored['data_preprocessor'] == dict(
        type='hkd_mm.PackedMaskPreprocessor',
        window=(600.0, 1500.0),
        mean=[100.0],
        std=[50.0],
        to_rgb=True,
        input_size=None,
    )
    meta = dict(student=stored, data_preprocessor=stored['data_preprocessor'])
    run, out = tmp_path / 'run.pth', tmp_path / 'student.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=meta), run)
    export_student(run, out)
    network, _ = load_student(out)
    images, _ = batch()
    with torch.no_grad():
        assert torch.equal(network(images), model(images, mode='tensor'))
    assert network.data_preprocessor.window == (600.0, 1500.0)
    # and teaches
    teacher = build(
        distillation(METHODS['kd'], teacher=segmentor(), teacher_ckpt=str(out))
    ).teacher
    for name, value in network.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[name])
