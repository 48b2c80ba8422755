# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""CWDLoss against equations (4) and (5), written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.dense_losses import CWDLoss


def naive_channel(plane, tau):
    raised = [math.exp((x - plane.max()) / tau) for x in plane.flatten()]
    return [x / sum(raised) for x in raised]


def naive(student, teacher, tau):
    n, channels = student.shape[:2]
    total = 0.0
    for i, c in np.ndindex(n, channels):
        q = naive_channel(student[i, c], tau)
        p = naive_channel(teacher[i, c], tau)
        total += sum(a * math.log(a / b) for a, b in zip(p, q))
    return tau**2 * total / (n * channels)


def tensor(array):
    return torch.as_tensor(array, dtype=torch.float32)


@pytest.mark.parametrize('shape', [(3, 4, 5, 4), (1, 1, 2, 2), (2, 7, 1, 6)])
@pytest.mark.parametrize('tau, weight', [(4.0, 1.0), (1.0, 50.0), (2.5, 3.0)])
def test_it_equals_the_paper(shape, tau, weight):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, *shape)) * 3
    found = CWDLoss(tau, loss_weight=weight)(tensor(student), tensor(teacher))
    expected = weight * naive(student, teacher, tau)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_case_by_hand():
    # tau 1, one channel of two places: (1/2, 1/2) against (3/4, 1/4):
    # 3/4 log(3/2) + 1/4 log(1/2) = 0.130812; a second channel agrees, so
    # half of it
    student = torch.zeros(1, 2, 1, 2)
    teacher = torch.tensor([[math.log(3), 0.0], [5.0, 5.0]]).view(1, 2, 1, 2)
    found = CWDLoss(tau=1.0)(student, teacher)
    assert found.item() == pytest.approx(0.065406, rel=1e-5)


def test_the_level_of_a_channel_says_nothing():
    student, teacher = torch.randn(2, 2, 3, 4, 4)
    level = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(
        CWDLoss()(student + level, teacher - level),
        CWDLoss()(student, teacher),
        rtol=1e-4,
        atol=1e-6,
    )


def test_what_has_no_places_is_refused():
    with pytest.raises(UserError, match='maps'):
        CWDLoss()(torch.randn(2, 3), torch.randn(2, 3))
    with pytest.raises(UserError, match='tau'):
        CWDLoss(tau=-1.0)
