# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The weighted random sampler."""

import numpy as np
import pytest

from hkd_mm.datasets import samplers as balanced_sampler
from hkd_mm.datasets.samplers import BalancedSampler
from hkd_mm.errors import UserError

pytestmark = pytest.mark.usefixtures('in_tmp')

LABELS = np.repeat([0, 1, 2], [900, 90, 10])


class _Data:
    def get_gt_labels(self):
        return LABELS


def _draw(epoch=0, **kwargs):
    sampler = BalancedSampler(_Data(), seed=3, **kwargs)
    sampler.set_epoch(epoch)
    return np.array(list(sampler))


@pytest.mark.parametrize(
    'power, shares',
    [
        (1.0, [1 / 3, 1 / 3, 1 / 3]),
        (0.5, np.sqrt([900, 90, 10]) / np.sqrt([900, 90, 10]).sum()),
        (0.0, [0.9, 0.09, 0.01]),
    ],
)
def test_classes_are_drawn_by_the_power_of_their_size(power, shares):
    drawn = _draw(power=power, num_samples=30000)
    found = np.bincount(LABELS[drawn], minlength=3) / len(drawn)
    np.testing.assert_allclose(found, shares, atol=0.01)
    assert set(drawn[LABELS[drawn] == 2]) == set(range(990, 1000))


def test_an_epoch_is_a_function_of_seed_and_epoch():
    assert len(_draw()) == len(LABELS)
    np.testing.assert_array_equal(_draw(epoch=5), _draw(epoch=5))
    assert (_draw(epoch=5) != _draw(epoch=6)).any()


def test_processes_share_the_epoch_of_one(monkeypatch):
    whole = _draw(num_samples=1001)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(
            balanced_sampler, 'get_dist_info', lambda rank=rank: (rank, 2)
        )
        parts.append(_draw(num_samples=1001))
    assert len(parts[0]) == len(parts[1]) == 501
    joined = np.stack(parts, 1).ravel()
    np.testing.assert_array_equal(joined[:1001], whole)


def test_it_is_built_from_a_loader_config(tiny_data):
    from mmengine.runner import Runner

    loader = Runner.build_dataloader(
        dict(
            batch_size=6,
            num_workers=0,
            sampler=dict(type='hkd_mm.BalancedSampler'),
            dataset=dict(
                type='hkd_mm.SkinDisease',
                data_root=str(tiny_data),
                classes=['Acne', 'Benign', 'Eczema'],
            ),
        ),
        seed=1,
    )
    assert len(loader.sampler) == len(loader.dataset)


@pytest.mark.parametrize('kwargs', [dict(power=1.5), dict(num_samples=0)])
def test_mistakes_are_named(kwargs):
    with pytest.raises(UserError, match=next(iter(kwargs))):
        _draw(**kwargs)
