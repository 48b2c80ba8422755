# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Counter-based numbers: pure, uniform, independent."""

import numpy as np
import pytest
import torch
from scipy import stats

from hkd_mm.models.preprocessors.counter_rng import (
    _bits,
    mix64,
    uniform_by_name,
)


def uniform(seed, view, index, operation, draws=1):
    return uniform_by_name(seed, view, index, {operation: draws})[operation]


def bits(seed, view, index, operation, draws):
    return _bits(seed, view, index, {operation: draws})


def splitmix64(value):
    """The finaliser in Python's unbounded integers."""
    mask = (1 << 64) - 1
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def test_mix64_is_the_finaliser_of_splitmix64():
    values = [0, 1, 2, 12345678901234567890, (1 << 64) - 1, 1 << 63]
    signed = torch.tensor([v - (1 << 64) if v >> 63 else v for v in values])
    found = [int(v) % (1 << 64) for v in mix64(signed)]
    assert found == [splitmix64(v) for v in values]
    # The published first output of SplitMix64 with seed 0.
    assert splitmix64(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


def test_a_number_depends_on_its_sample_and_not_on_the_batch():
    index = torch.tensor([7, 3, 11, 3])
    together = uniform(1, 2, index, 'flip', 3)
    for row, i in zip(together, index, strict=True):
        assert torch.equal(row, uniform(1, 2, i[None], 'flip', 3)[0])
    assert torch.equal(together[:, :2], uniform(1, 2, index, 'flip', 2))


@pytest.mark.parametrize(
    'change',
    [
        dict(seed=2),
        dict(view=3),
        dict(operation='rotate'),
        dict(index=torch.arange(100, 1124)),
    ],
)
def test_every_part_of_the_key_changes_the_numbers(change):
    key = dict(seed=1, view=2, index=torch.arange(1024), operation='flip')
    one = uniform(**key).flatten()
    other = uniform(**{**key, **change}).flatten()
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.12
    assert (one == other).float().mean() < 0.01


def test_numbers_are_uniform_and_uncorrelated():
    draws = uniform(0, 0, torch.arange(20000), 'x', 4).double().numpy()
    assert draws.min() >= 0 and draws.max() < 1
    for column in draws.T:
        assert stats.kstest(column, 'uniform').pvalue > 1e-3
    correlation = np.corrcoef(draws.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.03
    neighbours = np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]
    assert abs(neighbours) < 0.03


def test_values_stay_what_they_are():
    """A change here would make every teacher cache stale."""
    found = bits(42, 0, torch.tensor([0, 1]), 'flip', 2)
    assert found.tolist() == FROZEN


FROZEN = [
    [5362178904780243391, -8321657332430204473],
    [8602341874664496273, -1468479350315957182],
]


def test_several_operations_in_one_pass_give_the_same_numbers():
    index = torch.tensor([0, 5, 2**40, -3])
    draws = dict(flip=1, jitter=4, rotate=2)
    found = uniform_by_name(11, 3, index, draws)
    for name, count in draws.items():
        assert torch.equal(found[name], uniform(11, 3, index, name, count))
