# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""RegressorConnector: the shapes and layers that it makes."""

import pytest
import torch
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.models.connectors.feature_align_connector import (
    RegressorConnector,
    StagesConnector,
)


@pytest.mark.parametrize('hidden', [0, 2])
@pytest.mark.parametrize(
    'student, teacher',
    [
        ((3, 5, 8, 8), (3, 7, 4, 4)),
        ((3, 5, 4, 4), (3, 7)),
        ((3, 5), (3, 7)),
    ],
)
def test_it_delivers_the_teachers_shape(student, teacher, hidden):
    connector = RegressorConnector(hidden)
    connector.build(student, teacher)
    out = connector(torch.randn(student))
    assert out.shape == teacher
    sum(out.flatten()).backward()
    assert all(p.grad is not None for p in connector.parameters())


def test_the_last_norm_is_there_unless_it_is_unwanted():
    shapes = (4, 5, 2, 2), (4, 6, 2, 2)
    normed, plain = RegressorConnector(), RegressorConnector(norm=False)
    for connector in (normed, plain):
        connector.build(*shapes)
    out = normed(torch.randn(shapes[0]))
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(6), rtol=0, atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    assert plain.project[0].bias is not None


def test_stages_have_connectors_of_their_own():
    connector = StagesConnector(dict(type='hkd_mm.RegressorConnector', hidden=1))
    student, teacher = (
        [(3, c, size, size) for c, size in shapes]
        for shapes in (((4, 8), (6, 4)), ((7, 8), (9, 2)))
    )
    connector.build(student, teacher)
    maps = connector([torch.randn(shape) for shape in student])
    assert [tuple(x.shape) for x in maps] == teacher
    with pytest.raises(UserError, match='2 and 1; record'):
        StagesConnector().build(student, teacher[:1])


def test_a_norm_may_come_first():
    connector = RegressorConnector(norm=False, norm_first=True)
    connector.build((8, 5), (8, 7))
    first, layer = connector.project
    assert isinstance(first, nn.BatchNorm1d) and isinstance(layer, nn.Linear)
    short = torch.randn(8, 5)
    torch.testing.assert_close(
        connector(100 * short), connector(short), rtol=1e-3, atol=1e-3
    )


def test_a_negative_number_of_layers_is_refused():
    with pytest.raises(UserError, match='hidden'):
        RegressorConnector(hidden=-1)
