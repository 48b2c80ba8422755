# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""An epoch from the easiest to the most difficult image."""

import numpy as np
import pytest

from hkd_mm.datasets import samplers as balanced_sampler
from hkd_mm.datasets.samplers import CurriculumSampler

pytestmark = pytest.mark.usefixtures('in_tmp')

LABELS = np.array([0, 0, 0, 0, 1, 1, 0])
CONFIDENCE = np.array([0.9, 0.5, 0.7, 0.5, 0.99, 0.3, 0.8])


class _Data:
    def get_gt_labels(self):
        return LABELS


def drawn(epoch=0, **kwargs):
    sampler = CurriculumSampler(_Data(), seed=3, **kwargs)
    sampler.rank_by(CONFIDENCE)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_image_once_in_the_order_of_confidence():
    assert drawn(power=None) == [4, 0, 6, 2, 1, 3, 5]
    assert drawn(epoch=5, power=None) == drawn(power=None)


def test_drawn_with_weights_and_then_sorted():
    indices = drawn(num_samples=4000)
    assert (np.diff(CONFIDENCE[indices]) <= 0).all()
    shares = np.bincount(LABELS[indices]) / len(indices)
    np.testing.assert_allclose(shares, 0.5, atol=0.03)
    assert drawn(num_samples=50) != drawn(1, num_samples=50)
    assert drawn(1, num_samples=50) == drawn(1, num_samples=50)


def test_processes_share_an_epoch(monkeypatch):
    parts = []
    for rank in range(2):
        monkeypatch.setattr(
            balanced_sampler, 'get_dist_info', lambda rank=rank: (rank, 2)
        )
        parts.append(drawn(power=None))
    # 7 images over 2 processes: one is seen twice, at its place in the order
    assert [i for pair in zip(*parts) for i in pair] == [
        4,
        0,
        0,
        6,
        2,
        1,
        3,
        5,
    ]


def test_without_a_ranking_nothing_is_drawn():
    with pytest.raises(AssertionError, match='ranks before the epoch'):
        list(CurriculumSampler(_Data(), seed=0))
