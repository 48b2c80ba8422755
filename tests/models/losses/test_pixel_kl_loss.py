# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""PixelKLLoss pixel by pixel, written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.dense_losses import PixelKLLoss
from hkd_mm.models.losses.kd_losses import KLLoss


def naive_probabilities(pixel, tau):
    if len(pixel) == 1:
        p = 1 / (1 + math.exp(-pixel[0] / tau))
        return [1 - p, p]
    raised = [math.exp((x - max(pixel)) / tau) for x in pixel]
    return [x / sum(raised) for x in raised]


def naive(student, teacher, tau):
    found = []
    n, _, height, width = student.shape
    for i, y, x in np.ndindex(n, height, width):
        q = naive_probabilities(student[i, :, y, x], tau)
        p = naive_probabilities(teacher[i, :, y, x], tau)
        found.append(sum(a * math.log(a / b) for a, b in zip(p, q)))
    return tau**2 * sum(found) / len(found)


def tensor(array):
    return torch.as_tensor(array, dtype=torch.float32)


@pytest.mark.parametrize('classes', [1, 2, 3, 7])
@pytest.mark.parametrize('tau, weight', [(1.0, 1.0), (4.0, 1.0), (2.5, 3.0)])
def test_it_equals_the_paper(classes, tau, weight):
    rng = np.random.default_rng(classes)
    student, teacher = rng.normal(size=(2, 3, classes, 4, 5)) * 2
    found = PixelKLLoss(tau, loss_weight=weight)(tensor(student), tensor(teacher))
    expected = weight * naive(student, teacher, tau)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_case_by_hand():
    # tau 2; student (1/2, 1/2); teacher 2 log 3: sigmoid(log 3) = 3/4, so
    # 1/4 log(1/2) + 3/4 log(3/2) = 0.130812; the other pixel agrees: half of
    # it, times 4
    student = torch.zeros(1, 1, 1, 2)
    teacher = torch.tensor([2 * math.log(3), 0.0]).view(1, 1, 1, 2)
    found = PixelKLLoss(tau=2.0)(student, teacher)
    assert found.item() == pytest.approx(0.261624, rel=1e-5)


def test_images_of_one_pixel_are_those_of_plain_kd():
    student, teacher = torch.randn(2, 6, 5)
    torch.testing.assert_close(
        PixelKLLoss()(student[..., None, None], teacher[..., None, None]),
        KLLoss()(student, teacher),
    )


def test_a_certain_teacher_is_finite():
    student = torch.randn(2, 1, 3, 3, requires_grad=True)
    PixelKLLoss(tau=1.0)(student, torch.full((2, 1, 3, 3), 1e4)).backward()
    assert student.grad.isfinite().all() and student.grad.all()


@pytest.mark.parametrize('shape', [(2, 1, 4, 4), (2, 3, 1, 1), (1, 3, 4, 4)])
def test_what_would_be_broadcast_is_refused(shape):
    with pytest.raises(UserError, match='num_classes'):
        PixelKLLoss()(torch.randn(2, 3, 4, 4), torch.randn(shape))
    with pytest.raises(UserError, match='tau'):
        PixelKLLoss(tau=0.0)
