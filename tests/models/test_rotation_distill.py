# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Four rotated views of a batch, and who is given them."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

import hkd_mm  # noqa: F401
from hkd_mm.errors import UserError
from hkd_mm.structures.packed_samples import PackedSamples

RESNET8 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='hkd_mm.CIFARResNet', depth=8),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64),
)
LOSSES = dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss'),
    loss_kd=dict(type='hkd_mm.KLLoss'),
    loss_dual=dict(type='hkd_mm.SSDKDLoss', alpha=0.0),
    loss_rotation=dict(type='hkd_mm.SSDKDRotationLoss'),
)


def build(kind='hkd_mm.RotationDistill', losses=LOSSES, **kwargs):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            dict(
                type=kind,
                input_size=32,
                data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
                architecture=RESNET8,
                teacher=RESNET8,
                distiller=dict(
                    type='mmrazor.ConfigurableDistiller',
                    distill_losses=losses,
                ),
            ),
            **kwargs,
        )
    )


def listened(model):
    """Loss -> the words it was last given, filled in by a step."""
    given = {}
    for name, loss in model.distiller.distill_losses.items():
        loss.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: given.update({name: kwargs}),
            with_kwargs=True,
        )
    return given


def batch(n=3):
    torch.manual_seed(1)
    labels = torch.arange(n) + 1
    return torch.randn(n, 3, 32, 32), labels


def test_losses_are_given_the_views_they_ask_for():
    model = build(all_views=['loss_dual'])
    given = listened(model)
    images, labels = batch()
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    losses = model.loss(images, samples)
    assert all(value.isfinite() for value in losses.values())
    sizes = {
        name: {len(value) for value in words.values()} for name, words in given.items()
    }
    assert sizes == dict(loss_ce={3}, loss_kd={3}, loss_dual={12}, loss_rotation={12})
    assert given['loss_ce']['gt_labels'].tolist() == [1, 2, 3]
    assert given['loss_rotation']['gt_labels'].tolist() == [1, 2, 3] * 4


def test_both_networks_see_each_view():
    model = build().eval()
    given = listened(model)
    images, labels = batch()
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    model.loss(images, samples)
    with torch.no_grad():
        for network, word in ((model.student, 'S'), (model.teacher, 'T')):
            expected = torch.cat(
                [
                    network(images.rot90(turns, (2, 3)), mode='tensor')
                    for turns in range(4)
                ]
            )
            found = given['loss_rotation'][f'preds_{word}']
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected[:3], expected[3:6], atol=1e-3)


def test_a_loss_of_upright_images_is_that_without_rotations():
    alone = dict(loss_kd=dict(type='hkd_mm.KLLoss'))
    images, labels = batch()
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    one, other = (
        build(kind, alone).eval().loss(images, samples)
        for kind in ('hkd_mm.RotationDistill', 'hkd_mm.FrozenTeacherDistill')
    )
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('mixed', [False, True])
def test_packed_samples_are_repeated_whole(mixed):
    model = build(losses={k: LOSSES[k] for k in ('loss_ce', 'loss_kd')})
    given = listened(model)
    images, labels = batch()
    scores = torch.rand(3, 5) if mixed else None
    samples = PackedSamples(labels, labels + 10, 2, scores)
    losses = model.loss(images.contiguous(memory_format=torch.channels_last), samples)
    assert sum(losses.values()).isfinite()
    found = given['loss_ce']['gt_labels']
    assert torch.equal(found, scores if mixed else labels)
    assert len(samples) == 3


def test_what_cannot_be_rotated_is_refused():
    with pytest.raises(UserError, match='square'):
        build().loss(torch.zeros(2, 3, 32, 30), None)
    with pytest.raises(UserError, match='all_views'):
        build(all_views=['loss_none'])


def test_a_cache_is_declined():
    assert 'four rotations' in build(teacher_cache={}).uncacheable()


def test_one_size_for_both():
    size = dict(type='hkd_mm.PackedPreprocessor', input_size=32, teacher_size=64)
    with pytest.raises(UserError, match='leave teacher_input_size out'):
        build(data_preprocessor=size)
