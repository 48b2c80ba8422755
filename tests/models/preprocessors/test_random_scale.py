# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Enlarged and reduced about the centre."""

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from test_geometric import BILINEAR, drawn

from hkd_mm.errors import UserError


@pytest.mark.parametrize('low, high', [(0.5, 0.9), (1.1, 2.0)])
def test_as_torchvision(photos, planar, low, high):
    """As its affine(); its outermost half pixel is not compared."""
    arguments = dict(RandomScale=dict(low=low, high=high, fill=0))
    _, parameters, found = drawn('RandomScale', images=photos, **arguments)
    factors = parameters['RandomScale']['factor']
    assert low <= factors.min() < factors.max() <= high
    for image, factor, result in zip(planar, factors.tolist(), found):
        want = tv.affine(image, 0, [0, 0], factor, [0, 0], BILINEAR, fill=0)
        edge = 20 - int(20 * min(factor, 1)) + 2
        inner = slice(edge, 40 - edge)
        off = (result - want)[:, inner, inner].abs().max()
        assert off < 0.02


def test_some_stay_as_they_are(photos, planar):
    arguments = dict(RandomScale=dict(prob=0.5, padding='border'))
    _, parameters, found = drawn('RandomScale', images=photos, **arguments)
    kept = parameters['RandomScale']['factor'] == 1
    assert kept.any() and not kept.all()
    assert torch.allclose(found[kept], planar[kept], atol=0.02)


def test_joined_with_a_turn(photos):
    pipeline, _, _ = drawn('Rotate', 'RandomScale', images=photos)
    assert pipeline.stages == [['Rotate', 'RandomScale']]


@pytest.mark.parametrize('low, high', [(0, 1), (1.2, 0.9), (-1, 1)])
def test_bad_factors_are_refused(photos, low, high):
    with pytest.raises(UserError, match='RandomScale: (low|high)'):
        drawn(
            'RandomScale',
            images=photos,
            RandomScale=dict(low=low, high=high),
        )
