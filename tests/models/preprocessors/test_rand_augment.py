# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""RandAugment's 14 operations against torchvision, pixel by pixel."""

import math

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torchvision.transforms import InterpolationMode

from hkd_mm.errors import UserError
from hkd_mm.models.preprocessors.pipeline import Pipeline
from hkd_mm.models.preprocessors.rand_augment import (
    OPERATIONS,
    RandAugment,
    _where,
    perform,
)

STRENGTHS = torch.tensor([0.0, 0.3, 0.5, 0.75, 0.9, 1.0])


def affine(image, shear=(0.0, 0.0), shift=(0.0, 0.0)):
    """As torchvision's RandAugment calls it: about the upper left corner."""
    return (
        tv.affine(
            image,
            0.0,
            [0, 0],
            1.0,
            [math.degrees(math.atan(value)) for value in shear],
            interpolation=InterpolationMode.BILINEAR,
            center=[0, 0],
        )
        if any(shear)
        else tv.affine(
            image,
            0.0,
            list(shift),
            1.0,
            [0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
    )


def rotate(image, degrees):
    return tv.rotate(image, degrees, InterpolationMode.BILINEAR)


def stock(image, name, s):
    """torchvision on a float image, or a uint8 one where levels matter."""
    level = image.round().byte()
    unit = image / 255
    return {
        'identity': lambda: image,
        'autocontrast': lambda: tv.autocontrast(unit) * 255,
        'equalize': lambda: tv.equalize(level),
        'rotate': lambda: rotate(image, 30 * s),
        'solarize': lambda: tv.solarize(level, 255 * (1 - s)),
        'color': lambda: tv.adjust_saturation(unit, 1 + 0.9 * s) * 255,
        'posterize': lambda: tv.posterize(level, 8 - round(4 * s)),
        'contrast': lambda: tv.adjust_contrast(unit, 1 + 0.9 * s) * 255,
        'brightness': lambda: tv.adjust_brightness(unit, 1 + 0.9 * s) * 255,
        'sharpness': lambda: tv.adjust_sharpness(unit, 1 + 0.9 * s) * 255,
        'shear_x': lambda: affine(image, shear=(0.3 * s, 0)),
        'shear_y': lambda: affine(image, shear=(0, 0.3 * s)),
        'translate_x': lambda: affine(image, shift=(150 / 331 * 40 * s, 0)),
        'translate_y': lambda: affine(image, shift=(0, 150 / 331 * 40 * s)),
    }[name]().float()


@pytest.mark.parametrize('name', OPERATIONS)
@pytest.mark.parametrize('sign', [1, -1])
def test_each_operation_equals_torchvision(name, sign, planar):
    if name in ('solarize', 'posterize') and sign < 0:
        sign = 1  # they have no direction
    for shift in range(6):
        strength = STRENGTHS.roll(shift) * sign
        found = perform(planar.clone(), name, strength, (0.0, 'constant'))
        for i in range(6):
            want = stock(planar[i], name, float(strength[i]))
            assert (found[i] - want).abs().max() < 0.05, (i, strength[i])


def test_one_to_three_operations_all_equally_likely():
    pipeline = Pipeline([dict(type='hkd_mm.RandAugment')])
    drawn = pipeline.parameters(0, 0, torch.arange(20000))['RandAugment']
    operation, sign = drawn['operation'], drawn['sign']
    assert operation.shape == sign.shape == (20000, 3)
    counts = torch.bincount(operation[:, 0], minlength=14) / 20000
    assert len(counts) == 14 and (counts - 1 / 14).abs().max() < 0.01
    # In the third place: 1/3 of the samples, 13/14 of them no identity.
    third = (operation[:, 2] != 0).float().mean()
    assert abs(third - 13 / 14 / 3) < 0.015
    second = (operation[:, 1] != 0).float().mean()
    assert abs(second - 13 / 14 * 2 / 3) < 0.015
    assert abs(sign.mean()) < 0.02 and set(sign.unique().tolist()) == {-1, 1}


def test_only_chosen_classes_are_changed(photos, planar):
    pipeline = Pipeline(
        [
            dict(
                type='hkd_mm.RandAugment',
                classes=[2, 5],
                count=(3, 3),
                magnitude=30,
            )
        ]
    )
    index, labels = torch.arange(600), torch.arange(600) % 6
    drawn = pipeline.parameters(0, 0, index, labels)['RandAugment']
    changed = (drawn['operation'] != 0).any(1)
    assert changed[(labels == 2) | (labels == 5)].all()
    assert not changed[(labels != 2) & (labels != 5)].any()
    operation = pipeline.operations['RandAugment']
    rows = {k: v[:6] for k, v in drawn.items()}
    found = operation.apply(planar.clone(), rows)
    same = [torch.equal(a, b) for a, b in zip(found, planar)]
    assert same[:2] == [True, True] and same[3:5] == [True, True]
    unknown = pipeline.parameters(0, 0, index)['RandAugment']
    assert (unknown['operation'] != 0).any(1).float().mean() > 0.99


def test_operations_follow_one_another(planar):
    """Three drawn operations are the three applied in turn."""
    operation = RandAugment(magnitude=15, fill=0.0)
    chosen = torch.tensor(
        [[3, 7, 11], [2, 4, 6], [9, 12, 5], [1, 8, 13], [10, 3, 0], [0, 0, 0]]
    )
    sign = torch.tensor([[1, -1, 1.0]]).repeat(6, 1)
    found = operation.apply(planar.clone(), dict(operation=chosen, sign=sign))
    for i in range(6):
        want = planar[i : i + 1].clone()
        for place in range(3):
            name = OPERATIONS[chosen[i, place]]
            signed = name not in ('solarize', 'posterize')
            strength = 0.5 * (sign[i, place] if signed else 1)
            want = perform(
                want,
                name,
                strength.reshape(1) if signed else torch.tensor([0.5]),
                (0.0, 'constant'),
            )
        assert (found[i] - want[0]).abs().max() < 1e-3


def test_on_a_device_all_rows_are_computed_and_the_marked_kept(planar):
    """The way without host reads: the same images as row by row."""

    def darken(images, values):
        return images.mul_(values.view(-1, 1, 1, 1))

    class OnDevice(torch.Tensor):
        device = torch.device('cuda')

    values = torch.rand(6)
    mask = torch.tensor([True, False, True, True, False, False])
    rows = _where(mask, darken, planar.clone(), values)
    every = _where(mask.as_subclass(OnDevice), darken, planar.clone(), values)
    assert torch.equal(rows, every.as_subclass(torch.Tensor))
    assert torch.equal(rows[~mask], planar[~mask])
    assert (rows[mask] != planar[mask]).any()


@pytest.mark.parametrize('wrong', [dict(count=(3, 1)), dict(magnitude=31)])
def test_impossible_arguments_are_told(wrong):
    with pytest.raises(UserError, match='RandAugment'):
        Pipeline([dict(type='hkd_mm.RandAugment', **wrong)])
