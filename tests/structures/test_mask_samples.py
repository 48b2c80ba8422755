# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.structures.mask_samples import MaskPredictions, MaskSamples


def _samples():
    masks = torch.tensor([[[0, 1]], [[2, 255]], [[0, 0]]], dtype=torch.uint8)
    return MaskSamples(masks, torch.tensor([4, 7, 1]), view=3)


def test_masks_are_labels_of_pixels():
    samples = _samples()
    assert len(samples) == 3 and samples.gt_scores is None
    assert samples.gt_labels.dtype == torch.int64
    assert samples.gt_labels.tolist() == [[[0, 1]], [[2, 255]], [[0, 0]]]


def test_a_part_of_the_batch_keeps_its_names():
    part = _samples()[1:]
    assert part.index.tolist() == [7, 1] and part.view == 3
    assert part.gt_masks.tolist() == [[[2, 255]], [[0, 0]]]
    with pytest.raises(TypeError, match='slices'):
        _samples()[0]


def test_moved_elsewhere_the_same():
    moved = _samples().to('cpu', non_blocking=True)
    assert moved.gt_masks.dtype == torch.uint8
    assert moved.index.tolist() == [4, 7, 1] and moved.view == 3


def test_one_channel_is_a_sigmoid_and_more_are_a_softmax():
    samples = _samples()
    one = MaskPredictions(torch.zeros(3, 1, 1, 2), samples)
    assert one['batch_probabilities'].eq(0.5).all()
    four = MaskPredictions(torch.zeros(3, 4, 1, 2).half(), samples)
    assert four['batch_probabilities'].dtype == torch.float32
    assert four['batch_probabilities'].eq(0.25).all()
    assert four['batch_masks'] is samples.gt_masks
    assert four['batch_index'] is samples.index


def test_a_metric_of_classes_is_refused():
    found = MaskPredictions(torch.zeros(3, 1, 1, 2), _samples())
    with pytest.raises(UserError, match='SegmentationMetric'):
        found['batch_scores']
