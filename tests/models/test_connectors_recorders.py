# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""FeatureAlignConnector and the recorders that find their place."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from hkd_mm.errors import UserError
from hkd_mm.models.connectors.feature_align_connector import (
    FeatureAlignConnector,
    resize_map,
)
from hkd_mm.models.recorders.network_recorders import (
    FeatureRecorder,
    GTLabelsRecorder,
    LogitsRecorder,
)


@pytest.mark.parametrize(
    'student, teacher',
    [
        ((2, 5, 4, 4), (2, 7, 4, 4)),
        ((2, 5, 8, 8), (2, 7, 4, 4)),
        ((2, 5, 4, 4), (2, 7, 8, 8)),
        ((2, 5, 7, 7), (2, 7, 4, 3)),
        ((2, 5, 4, 4), (2, 7)),
        ((2, 5), (2, 7)),
    ],
)
def test_connector_delivers_the_teachers_shape(student, teacher):
    connector = FeatureAlignConnector()
    connector.build(student, teacher)
    assert connector(torch.randn(student)).shape == teacher


@pytest.mark.parametrize(
    'student, teacher',
    [
        ((2, 5), (2, 7, 4, 4)),
        ((2, 9, 5), (2, 7, 4, 4)),
    ],
)
def test_connector_refuses_what_cannot_be_joined(student, teacher):
    with pytest.raises(UserError, match='FeatureAlignConnector'):
        FeatureAlignConnector().build(student, teacher)


def test_maps_are_averaged_down_and_interpolated_up():
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    assert resize_map(ramp, (4, 4)) is ramp
    assert resize_map(ramp, (2, 2)).flatten().tolist() == [
        2.5,
        4.5,
        10.5,
        12.5,
    ]
    torch.testing.assert_close(
        resize_map(torch.full((1, 1, 2, 2), 3.0), (5, 5)),
        torch.full((1, 1, 5, 5), 3.0),
    )


def networks():
    init_default_scope('mmpretrain')
    yield MODELS.build(
        dict(
            type='hkd_mm.TimmClassifier',
            model_name='mobilenetv2_050',
            num_classes=4,
        )
    )
    yield MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='hkd_mm.CIFARResNet', depth=8),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=4, in_channels=64),
        )
    )


def test_recorders_find_logits_map_and_labels_in_any_network():
    samples = [DataSample().set_gt_label(i) for i in (3, 1)]
    for network in networks():
        network.eval()
        recorders = LogitsRecorder(), FeatureRecorder(), GTLabelsRecorder()
        for recorder in recorders:
            recorder.initialize(network)
        images = torch.randn(2, 3, 32, 32)
        with recorders[0], recorders[1], recorders[2]:
            output = network(images, samples, mode='tensor')
        logits, feature, labels = (r.get_record_data() for r in recorders)
        assert torch.equal(logits, output)
        assert feature.dim() == 4 and len(feature) == 2
        assert labels.tolist() == [3, 1]
        network(images, samples, mode='tensor')  # outside: nothing is recorded
        assert [len(r.data_buffer) for r in recorders] == [1, 1, 1]


def test_a_stage_that_the_network_lacks_is_named():
    network = next(networks())
    with pytest.raises(UserError, match='stage=9.*5 stages'):
        FeatureRecorder(stage=9).initialize(network)
    *_, network = networks()
    recorder = FeatureRecorder(stage=3)
    recorder.initialize(network)
    with recorder:
        network(torch.randn(2, 3, 32, 32), mode='tensor')
    with pytest.raises(UserError, match='stage=3.*1 stages'):
        recorder.get_record_data()


@pytest.mark.parametrize('size', [(4, 4), (7, 3), (29, 29), (1, 1)])
def test_deterministic_pooling_is_the_same_pooling(size):
    feature = torch.randn(2, 3, 29, 31)
    usual = resize_map(feature, size)
    torch.use_deterministic_algorithms(True)
    try:
        repeatable = resize_map(feature, size)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(repeatable, usual)
