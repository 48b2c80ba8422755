# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ReviewKDLoss and its connector against the paper, in float64."""

import numpy as np
import pytest
import torch
from naive_maps import batch_norm, conv, pool, resize, values

from hkd_mm.errors import UserError
from hkd_mm.models.connectors.review_kd_connector import ReviewKDConnector
from hkd_mm.models.losses.stage_losses import ReviewKDLoss


def naive_stage(s, t):
    """Equation of the hierarchical context loss of one stage."""
    parts = [(1.0, np.mean((s - t) ** 2))]
    weight = 1.0
    for size in (4, 2, 1):
        if size < min(s.shape[2:]):
            weight /= 2
            difference = pool(s, size, size) - pool(t, size, size)
            parts.append((weight, np.mean(difference**2)))
    return sum(w * v for w, v in parts) / sum(w for w, _ in parts)


def nearest(x, height, width):
    rows = [i * x.shape[2] // height for i in range(height)]
    columns = [j * x.shape[3] // width for j in range(width)]
    return x[:, :, rows][:, :, :, columns]


def naive_fusion(maps, own, sizes):
    """The fused student maps, from the deepest to the shallowest."""
    fused, found = None, []
    for stage in range(len(maps))[::-1]:

        def name(part, stage=stage):
            return own[f'stages.{stage}.{part}']

        x = conv(maps[stage], name('reduce.0.weight'))
        x = batch_norm(x, name('reduce.1.weight'), name('reduce.1.bias'))
        if fused is not None:
            deeper = nearest(fused, *x.shape[2:])
            both = np.concatenate([x, deeper], axis=1)
            scores = conv(both, name('attend.weight'), name('attend.bias'))
            share = 1 / (1 + np.exp(-scores))
            x = share[:, :1] * x + share[:, 1:] * deeper
        fused = x
        x = conv(resize(fused, *sizes[stage]), name('expand.0.weight'))
        found.append(batch_norm(x, name('expand.1.weight'), name('expand.1.bias')))
    return found[::-1]


def maps(channels, sizes, n=3, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, c, *s)) for c, s in zip(channels, sizes)]


def tensors(arrays):
    return [torch.tensor(x, dtype=torch.float32) for x in arrays]


@pytest.mark.parametrize(
    'sizes, weight',
    [
        ([(8, 8), (4, 4), (2, 2), (1, 1)], 1.0),
        ([(29, 29), (15, 15), (8, 8), (4, 4)], 8.0),
        ([(5, 3)], 2.0),
    ],
)
def test_the_loss_equals_the_paper(sizes, weight):
    channels = range(2, 2 + len(sizes))
    s, t = maps(channels, sizes), maps(channels, sizes, seed=1)
    expected = weight * sum(naive_stage(*pair) for pair in zip(s, t))
    found = ReviewKDLoss(loss_weight=weight)(tensors(s), tensors(t))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_case_by_hand():
    # differences 1, 1, 1, 5 on 2 x 2: mean square (1 + 1 + 1 + 25) / 4 = 7;
    # pooled to one cell 2, squared 4; (7 + 4 / 2) / (1 + 1 / 2) = 6
    s = torch.tensor([1.0, 1.0, 1.0, 5.0]).view(1, 1, 2, 2)
    found = ReviewKDLoss()([s], [torch.zeros_like(s)])
    assert found.item() == pytest.approx(6.0)


@pytest.mark.parametrize(
    'student, teacher',
    [
        ([(6, 6), (4, 4), (2, 2)], [(6, 6), (4, 4), (2, 2)]),
        ([(6, 6), (3, 3), (2, 2)], [(5, 5), (4, 4), (1, 1)]),
    ],
)
def test_the_fused_maps_equal_the_paper(student, teacher):
    torch.manual_seed(0)
    connector = ReviewKDConnector(channels=3)
    s = maps((2, 4, 5), student)
    targets = [(3, c, *size) for c, size in zip((3, 2, 4), teacher)]
    connector.build([x.shape for x in s], targets)
    found = connector(tensors(s))
    expected = naive_fusion(s, values(connector), teacher)
    for mine, right, target in zip(found, expected, targets, strict=True):
        assert mine.shape == target
        np.testing.assert_allclose(mine.detach().numpy(), right, rtol=1e-3, atol=1e-5)


def test_a_deep_student_map_learns_from_the_shallow_teacher_map():
    connector = ReviewKDConnector()
    shapes = [(2, 3, 4, 4), (2, 5, 2, 2)]
    connector.build(shapes, shapes)
    s = [torch.randn(shape, requires_grad=True) for shape in shapes]
    connector(s)[0].square().sum().backward()
    assert s[1].grad.any()


def test_the_width_is_at_most_that_of_the_deepest_map():
    connector = ReviewKDConnector(channels=512)
    connector.build([(1, 3, 4, 4), (1, 5, 2, 2)], [(1, 4, 4, 4)] * 2)
    assert [stage.reduce[0].out_channels for stage in connector.stages] == [
        5,
        5,
    ]


@pytest.mark.parametrize(
    'student, teacher',
    [
        ([(1, 3, 4, 4)], [(1, 3, 4, 4)] * 2),
        ((1, 3, 4, 4), (1, 3, 4, 4)),
        ([(1, 3)], [(1, 3)]),
    ],
)
def test_shapes_that_cannot_be_fused_are_refused(student, teacher):
    with pytest.raises(UserError, match='StageMaps'):
        ReviewKDConnector().build(student, teacher)


def test_the_width_is_checked():
    with pytest.raises(UserError, match='channels'):
        ReviewKDConnector(channels=0)
