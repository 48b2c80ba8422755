# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A teacher of masks is checked with the threshold of validation."""

from types import SimpleNamespace

import pytest
import torch

from hkd_mm.engine.hooks.teacher_hooks import TeacherCheckHook
from hkd_mm.evaluation.segmentation_metric import SegmentationMetric
from hkd_mm.structures.mask_samples import MaskSamples


class Slices:
    """Four slices with a square."""

    def __len__(self):
        return 4

    def __getitems__(self, places):
        return len(places)


def a_runner(told, **loop):
    masks = torch.zeros(4, 8, 8, dtype=torch.uint8)
    masks[:, 2:5, 2:5] = 1
    logits = torch.where(masks[:, None] > 0, -1.0, -9.0)  # 0.27 and 0
    loader = SimpleNamespace(dataset=Slices(), collate_fn=lambda count: count)
    return SimpleNamespace(
        model=SimpleNamespace(
            teacher=lambda inputs, mode: logits,
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
