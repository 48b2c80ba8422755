# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Small classes are listed again: how often, where, and nothing else."""

from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler

from hkd_mm.datasets.packed.top_up import plan_copies, target_of
from hkd_mm.errors import UserError
from hkd_mm.structures.packed_samples import copy_of, row_of, sample_id

LABELS = [0] * 10 + [1] * 4 + [2] * 3
NAMES = [f'image{i}' for i in range(len(LABELS))]


@pytest.fixture
def uneven(packed_root, packed):
    """Training classes of 6, 3 and 1 images, val and test as they were."""
    for name, kept in dict(Eczema=6, Pigment=2).items():
        for path in sorted((packed_root / name).glob('*.png'))[kept:]:
            path.unlink()

    def build(split='train', **kwargs):
        return packed(split, **kwargs)

    return build


def test_ids_hold_a_row_and_a_copy():
    rows, copies = torch.tensor([0, 7, 2**32 - 1]), torch.tensor([0, 3, 900])
    ids = sample_id(rows, copies)
    assert ids.dtype == torch.int64 and (ids >= 0).all()
    assert torch.equal(row_of(ids), rows)
    assert torch.equal(copy_of(ids), copies)
    assert (sample_id(rows.numpy(), copies.numpy()) == ids.numpy()).all()
    assert torch.equal(sample_id(rows, copies * 0), rows)


@pytest.mark.parametrize(
    'target, counts',
    [
        (None, [10, 4, 3]),
        ('largest', [10, 10, 10]),
        (1.0, [10, 10, 10]),
        (0.5, [10, 5, 5]),
        (0.1, [10, 4, 3]),
        (7, [10, 7, 7]),
        (25, [25, 25, 25]),
        ('0.5', [10, 5, 5]),
        ('7', [10, 7, 7]),
    ],
)
def test_the_target_is_met_evenly(target, counts):
    positions, copies = plan_copies(LABELS, NAMES, target)
    labels = np.array(LABELS)[positions]
    assert np.bincount(labels).tolist() == counts
    # the images themselves come first, as they stood
    assert positions[:17].tolist() == list(range(17))
    assert not copies[:17].any() and (copies[17:] > 0).all()
    # no image twice with one number, and none without the number before
    assert len(set(zip(positions, copies))) == len(positions)
    for place, times in Counter(positions.tolist()).items():
        numbers = copies[positions == place]
        assert sorted(numbers) == list(range(times))
        want, own = counts[LABELS[place]], LABELS.count(LABELS[place])
        assert times in (want // own, -(-want // own))


def test_which_images_come_once_more_hangs_on_their_names_alone():
    order = np.random.default_rng(0).permutation(17)
    one = plan_copies(LABELS, NAMES, 'largest')
    labels, names = np.array(LABELS)[order], [NAMES[i] for i in order]
    two = plan_copies(labels, names, 'largest')
    assert Counter(NAMES[i] for i in one[0]) == Counter(names[i] for i in two[0])
    more = {NAMES[i] for i, c in Counter(one[0].tolist()).items() if c == 4}
    assert len(more) == 1  # 10 = 3 + 3 + 4
    again = {
        NAMES[i]
        for i, c in Counter(
            plan_copies(LABELS, [f'x{n}' for n in NAMES], 'largest')[0].tolist()
        ).items()
        if c == 4
    }
    assert len(again) == 1


def test_a_class_without_images_stays_empty():
    positions, _ = plan_copies([0, 0, 0, 2], list('abcd'), 'largest')
    assert np.bincount(np.array([0, 0, 0, 2])[positions]).tolist() == [3, 0, 3]


@pytest.mark.parametrize(
    'word', ['most', 0.0, 1.5, -3, 0, 1, '1', True, False, float('nan'), [2]]
)
def test_other_targets_are_refused(word):
    with pytest.raises(UserError, match='packed.top_up=.*largest'):
        target_of(word)


def test_the_training_split_grows_and_the_store_does_not(uneven):
    plain, topped = uneven(), uneven(top_up='largest')
    sizes = plain.class_counts()
    assert len(set(sizes)) > 1
    assert topped.store is plain.store
    assert topped.class_counts().tolist() == [sizes.max()] * 3
    assert (np.bincount(topped.get_gt_labels()) == sizes.max()).all()
    assert len(topped) == 3 * sizes.max() == len(topped.sample_ids)
    n = len(plain)
    for name in ('rows', 'index', 'labels'):
        assert torch.equal(getattr(topped, name)[:n], getattr(plain, name))
    assert len(topped.index.unique()) == len(topped)
    assert torch.equal(row_of(topped.index), topped.rows)
    assert set(topped.rows.tolist()) == set(plain.rows.tolist())
    assert topped.split_hash == plain.split_hash
    batch = topped.__getitems__(list(range(len(topped))))
    for i, row in enumerate(batch['index']):
        first = int((plain.rows == row_of(row)).nonzero())
        assert batch['labels'][i] == plain.labels[first]
        assert torch.equal(batch['inputs'][i], plain[first]['inputs'])
        assert topped.sample_ids[i] == plain.sample_ids[first]
        info = topped.get_data_info(i)
        assert info['sample_id'] == plain.sample_ids[first]
        assert topped.get_cat_ids(i) == [info['gt_label']]


def test_copies_do_not_cross_splits(uneven):
    topped = uneven(top_up=50)
    assert len(topped) == 150
    held = {*uneven('val').sample_ids, *uneven('test').sample_ids}
    assert held and not held & set(topped.sample_ids)


def test_a_data_set_that_is_given_is_not_changed(uneven):
    inner = uneven().dataset
    size = len(inner)
    topped = uneven(dataset=inner, top_up='largest')
    assert len(inner) == size < len(topped)


@pytest.mark.parametrize('split', ['val', 'test'])
def test_evaluation_is_not_topped_up(uneven, split):
    with pytest.raises(UserError, match=f'top_up=largest of the {split}'):
        uneven(split, top_up='largest')


def test_processes_share_the_copies(uneven, monkeypatch):
    topped, seen = uneven(top_up='largest'), []
    for rank in range(2):
        monkeypatch.setattr(
            'mmengine.dataset.sampler.get_dist_info',
            lambda rank=rank: (rank, 2),
        )
        sampler = DefaultSampler(topped, shuffle=True, seed=3)
        batch = uneven(top_up='largest').__getitems__(list(sampler))
        seen.append(batch['index'])
    assert torch.equal(torch.cat(seen).sort()[0], topped.index.sort()[0])
