# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Erased boxes against torchvision, and how they are distributed."""

import torch
import torchvision.transforms.v2.functional as tv

from hkd_mm.models.preprocessors.augmentation import box_in_pixels
from hkd_mm.models.preprocessors.pipeline import Pipeline


def test_erasing_equals_torchvision(planar):
    for fill in (128.0, 0.0, None):
        pipeline = Pipeline([dict(type='hkd_mm.RandomErasing', prob=0.7, fill=fill)])
        drawn = pipeline.parameters(3, 0, torch.arange(6))['RandomErasing']
        operation = pipeline.operations['RandomErasing']
        found = operation.apply(planar, drawn)
        boxes = torch.stack(box_in_pixels(drawn, (40, 40)), 1).int().tolist()
        assert drawn['on'].any() and not drawn['on'].all()
        for i, box in enumerate(boxes):
            colour = drawn['colour'][i, :, None, None]
            want = tv.erase(planar[i], *box, colour)
            assert torch.equal(found[i], want if drawn['on'][i] else planar[i])
        assert fill is None or (drawn['colour'] == fill).all()


def test_how_often_and_how_large():
    pipeline = Pipeline([dict(type='hkd_mm.RandomErasing', prob=0.25)])
    drawn = pipeline.parameters(0, 0, torch.arange(20000))['RandomErasing']
    assert abs(drawn['on'].float().mean() - 0.25) < 0.015
    area = drawn['area'].sort().values
    uniform = torch.linspace(0.02, 1 / 3, 20000)
    assert (area - uniform).abs().max() < 0.005
    assert abs(drawn['ratio'].log().mean()) < 0.02
    top, left, tall, wide = box_in_pixels(drawn, (116, 116))
    assert (top + tall <= 116).all() and (left + wide <= 116).all()
    assert min(top.min(), left.min()) >= 0 and min(tall.min(), wide.min()) >= 1
