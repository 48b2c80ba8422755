# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Colour operations against torchvision and Pillow, pixel by pixel."""

from itertools import permutations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from PIL import ImageOps

from hkd_mm.errors import UserError
from hkd_mm.models.preprocessors import color as colour
from hkd_mm.models.preprocessors import color as levels
from hkd_mm.models.preprocessors.color import ColorJitter
from hkd_mm.models.preprocessors.pipeline import Pipeline

LEVEL = 0.002  # of 255: float32 rounding on another way to the same number
FACTORS = torch.tensor([0.0, 0.55, 0.7, 1.0, 1.3, 2.1])


def one_by_one(function, planar, values):
    """torchvision on float images in [0, 1], an amount for each."""
    return torch.stack(
        [
            function(image / 255, float(value)) * 255
            for image, value in zip(planar, values)
        ]
    )


def close(found, want, level=LEVEL):
    assert found.shape == want.shape
    assert (found - want).abs().max() < level


@pytest.mark.parametrize(
    'function, contrast, saturation',
    [
        (tv.adjust_brightness, 0.0, 0.0),
        (tv.adjust_contrast, 1.0, 0.0),
        (tv.adjust_saturation, 0.0, 1.0),
    ],
)
def test_tones_equal_torchvision(function, contrast, saturation, planar):
    for shift in range(6):
        factors = FACTORS.roll(shift)
        found = colour.adjust_tone(
            planar.clone(),
            factors,
            torch.full((6,), contrast),
            torch.full((6,), saturation),
        )
        close(found, one_by_one(function, planar, factors))


@pytest.mark.parametrize('limit', [0.05, 1 / 6, 0.5])
def test_hue_equals_torchvision(limit, planar):
    for value in torch.linspace(-limit, limit, 7):
        turns = torch.full((6,), float(value))
        turns[::2] *= 0.7
        found = colour.shift_hue(planar.clone(), turns, far=limit > 1 / 6)
        close(found, one_by_one(tv.adjust_hue, planar, turns), 10 * LEVEL)


def test_hue_leaves_grey_alone_and_turns_red_to_green():
    pixels = torch.tensor([[[90.0], [90.0], [90.0]], [[255.0], [0.0], [0.0]]])
    found = colour.shift_hue(pixels[..., None].clone(), torch.full((2,), 1 / 3))
    assert torch.equal(found[0, :, 0, 0], torch.full((3,), 90.0))
    assert found[1, :, 0, 0].tolist() == pytest.approx([0, 255, 0], abs=1e-3)


def test_sharpness_equals_torchvision(planar):
    found = levels.sharpen(planar, FACTORS)
    close(found, one_by_one(tv.adjust_sharpness, planar, FACTORS))


def test_autocontrast_equals_torchvision(planar):
    want = tv.autocontrast(planar / 255) * 255
    close(levels.autocontrast(planar), want)


def test_solarize_equals_torchvision(planar, photos):
    for threshold in (0, 1, 100, 255, 256):
        found = levels.solarize(planar, torch.full((6,), float(threshold)))
        want = torch.where(planar >= threshold, 255 - planar, planar)
        assert torch.equal(found, want)
        if threshold < 256:
            stock = tv.solarize(photos.permute(0, 3, 1, 2), threshold)
            assert torch.equal(found, stock.float())


@pytest.mark.parametrize('bits', range(1, 9))
def test_posterize_equals_torchvision(bits, planar, photos):
    found = levels.posterize(planar, torch.full((6,), float(bits)))
    want = tv.posterize(photos.permute(0, 3, 1, 2), bits)
    assert torch.equal(found, want.float())


def test_equalize_equals_torchvision_and_pillow(planar, photos):
    found = levels.equalize(planar)
    assert torch.equal(found, tv.equalize(photos.permute(0, 3, 1, 2)).float())
    for i in range(6):
        pillow = ImageOps.equalize(tv.to_pil_image(planar[i].byte()))
        assert torch.equal(found[i], tv.pil_to_tensor(pillow).float())


def test_jitter_is_its_operations_in_their_order(planar):
    """24 orders, each against torchvision's functions one after another."""
    jitter = ColorJitter(0.3, 0.3, 0.3, 0.05)
    factors = torch.tensor([[0.8, 1.25, 0.75]]).repeat(6, 1)
    factors[::2] = torch.tensor([1.3, 0.7, 1.2])
    hue = torch.linspace(-0.05, 0.05, 6)
    stock = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation]
    orders = torch.tensor(list(permutations(range(3))))
    for place in range(4):
        found = jitter.apply(
            planar.clone(),
            dict(factors=factors, order=orders, hue=hue, hue_place=place),
        )
        for i, order in enumerate(orders.tolist()):
            steps = [(stock[k], factors[i, k]) for k in order]
            steps.insert(place, (tv.adjust_hue, hue[i]))
            want = planar[i] / 255
            for function, value in steps:
                want = function(want, float(value))
            close(found[i], want * 255, 20 * LEVEL)


def test_jitter_draws_factors_orders_and_places_uniformly():
    pipeline = Pipeline(
        [
            dict(
                type='hkd_mm.ColorJitter',
                brightness=0.3,
                contrast=0.2,
                saturation=1.5,
                hue=0.05,
            )
        ]
    )
    drawn = pipeline.parameters(0, 0, torch.arange(20000))['ColorJitter']
    for column, (low, high) in enumerate([(0.7, 1.3), (0.8, 1.2), (0, 2.5)]):
        values = drawn['factors'][:, column].sort().values
        assert low <= values[0] and values[-1] <= high
        uniform = torch.linspace(low, high, 20000)
        assert (values - uniform).abs().max() < 0.015 * (high - low)
    assert drawn['hue'].abs().max() <= 0.05
    assert abs(drawn['hue'].std() - 0.05 / 3**0.5) < 5e-4
    codes = drawn['order'] @ torch.tensor([9, 3, 1])
    counts = codes.unique(return_counts=True)[1]
    assert len(counts) == 6 and (counts / 20000 - 1 / 6).abs().max() < 0.015
    one = torch.arange(1)
    places = [
        pipeline.parameters(0, view, one)['ColorJitter']['hue_place']
        for view in range(400)
    ]
    assert (np.bincount(places, minlength=4) / 400).min() > 0.19


def test_jitter_of_nothing_and_impossible_amounts(planar):
    pipeline = Pipeline(
        [dict(type='hkd_mm.ColorJitter', brightness=0.9, hue=0.5, prob=0.0)]
    )
    drawn = pipeline.parameters(0, 0, torch.arange(6))['ColorJitter']
    found = pipeline.operations['ColorJitter'].apply(planar.clone(), drawn)
    close(found, planar, 1e-4)
    with pytest.raises(UserError, match='hue: .* not 0.7'):
        Pipeline([dict(type='hkd_mm.ColorJitter', hue=0.7)])
