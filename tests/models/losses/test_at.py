# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ATLoss against equations (1) and (2), written out in float64."""

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.attention_losses import ATLoss


def naive_attention(feature, size):
    """Equation (1) of one image; whole blocks averaged down to size."""
    channels, height, width = feature.shape
    rows, columns = height // size[0], width // size[1]
    found = []
    for i in range(size[0]):
        for j in range(size[1]):
            block = [
                sum(feature[c, y, x] ** 2 for c in range(channels))
                for y in range(i * rows, (i + 1) * rows)
                for x in range(j * columns, (j + 1) * columns)
            ]
            found.append(sum(block) / len(block))
    length = sum(q * q for q in found) ** 0.5
    return [q / length for q in found]


def naive(s_maps, t_maps, beta):
    total = 0.0
    for s, t in zip(s_maps, t_maps):
        size = np.minimum(s.shape[2:], t.shape[2:])
        stage = []
        for mine, other in zip(s, t):
            q = naive_attention(mine, size), naive_attention(other, size)
            stage += [(a - b) ** 2 for a, b in zip(*q)]
        total += sum(stage) / len(stage)
    return beta / 2 * total


def maps(*shapes, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) * scale for shape in shapes]


def tensors(arrays):
    return [torch.as_tensor(a, dtype=torch.float32) for a in arrays]


@pytest.mark.parametrize(
    's_shapes, t_shapes, beta, scale',
    [
        ([(3, 4, 4, 4)], [(3, 6, 4, 4)], 1000.0, 1.0),
        ([(2, 4, 8, 4), (2, 5, 2, 2)], [(2, 3, 8, 4), (2, 9, 2, 2)], 7.0, 50),
        # the student's larger, the teacher's larger, and one of each
        ([(2, 3, 8, 8), (2, 3, 2, 2)], [(2, 4, 4, 4), (2, 4, 4, 4)], 1.0, 1),
        ([(2, 3, 8, 2)], [(2, 4, 4, 6)], 1.0, 1e-3),
    ],
)
def test_it_equals_the_paper(s_shapes, t_shapes, beta, scale):
    s = maps(*s_shapes, scale=scale)
    t = maps(*t_shapes, seed=1, scale=scale)
    found = ATLoss(beta)(tensors(s), tensors(t))
    assert found.item() == pytest.approx(naive(s, t, beta), rel=1e-5)


def test_a_case_by_hand():
    # one image, two pixels: Q_S = (1^2 + 1^2, 0), Q_T = (9, 16) before
    # division, so (1, 0) and (9, 16) / sqrt(337) = (0.490261, 0.871576);
    # mean of 0.259834 and 0.759644 is 0.509739, times 10 / 2
    s = torch.tensor([[[[1.0, 0.0]], [[-1.0, 0.0]]]])
    t = torch.tensor([[[[3.0, -4.0]]]])
    assert ATLoss(beta=10.0)([s], [t]).item() == pytest.approx(2.548696, rel=1e-5)


def test_stages_add_up():
    s = tensors(maps((2, 3, 4, 4), (2, 3, 2, 2)))
    t = tensors(maps((2, 5, 4, 4), (2, 5, 2, 2), seed=1))
    loss = ATLoss()
    apart = sum(loss([a], [b]) for a, b in zip(s, t))
    torch.testing.assert_close(loss(s, t), apart)


def test_dark_maps_have_a_finite_gradient():
    s = torch.zeros(2, 3, 4, 4, requires_grad=True)
    value = ATLoss()([s], [torch.zeros(2, 3, 4, 4)])
    value.backward()
    assert value == 0 and s.grad.isfinite().all()
    ATLoss()([s], [torch.randn(2, 3, 4, 4)]).backward()
    assert s.grad.isfinite().all()


def test_deterministic_training_is_the_same():
    s, t = tensors(maps((2, 3, 7, 7))), tensors(maps((2, 3, 4, 4), seed=1))
    usual = ATLoss()(s, t)
    torch.use_deterministic_algorithms(True)
    try:
        repeatable = ATLoss()(s, t)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(repeatable, usual)


def test_what_cannot_be_compared_is_refused():
    one = torch.randn(2, 3, 4, 4)
    with pytest.raises(UserError, match='2 student maps and 1'):
        ATLoss()([one, one], [one])
    # class scores have no place in the image: their loss would be 0
    with pytest.raises(UserError, match='maps'):
        ATLoss()([one[..., 0, 0]], [one[..., 0, 0]])
    with pytest.raises(UserError, match='beta'):
        ATLoss(beta=-1.0)
