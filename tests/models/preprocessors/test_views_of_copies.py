# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Copies of an image have views of their own; copy 0 has those of today."""

import torch

from hkd_mm.models.preprocessors.packed_preprocessor import PackedPreprocessor
from hkd_mm.structures.packed_samples import sample_id

ROWS = torch.arange(400)
AUGMENT = [
    dict(type='hkd_mm.HorizontalFlip', prob=0.5),
    dict(type='hkd_mm.ColorJitter', brightness=0.3, hue=0.05),
    dict(type='hkd_mm.Rotate', degrees=10),
]
RAND = [*AUGMENT, dict(type='hkd_mm.RandAugment', copies_only=True)]


def copies(number):
    return sample_id(ROWS, torch.full_like(ROWS, number))


def numbers(network, index, view=0):
    """All that one view does, a row for each sample."""
    found = network.view_parameters(index, view)
    return torch.cat(
        [
            value.double().flatten(1) if value.dim() > 1 else value[:, None]
            for values in found.values()
            for value in values.values()
            if torch.is_tensor(value) and len(value) == len(index)
        ],
        1,
    )


def test_each_copy_draws_for_itself():
    network = PackedPreprocessor(augment=AUGMENT)
    drawn = [numbers(network, copies(number)) for number in range(4)]
    assert torch.equal(drawn[0], numbers(network, ROWS))
    for one in range(4):
        for two in range(one):
            same = (drawn[one] == drawn[two]).all(1)
            assert not same.any()
            # continuous ones are unrelated: |r| of 400 is below 0.2
            pair = torch.stack([drawn[one][:, -1], drawn[two][:, -1]])
            assert abs(torch.corrcoef(pair)[0, 1]) < 0.2
    # a copy is not another image, nor another view of it
    assert not (drawn[1][:-1] == drawn[0][1:]).all(1).any()
    for view in range(1, 4):
        assert not (drawn[1] == numbers(network, ROWS, view)).all(1).any()


def test_a_copy_is_the_same_in_any_batch(photos):
    network = PackedPreprocessor(augment=RAND)
    index = torch.cat([copies(0)[:3], copies(1)[:3]])
    whole = network.augment(photos[[0, 1, 2, 0, 1, 2]], index, 4)
    for i in (5, 1, 3):
        alone = network.augment(photos[[i % 3]], index[[i]], 4)
        assert torch.equal(alone[0], whole[i])
    assert not torch.equal(whole[:3], whole[3:])


def test_rand_augment_may_be_for_copies_alone(photos):
    plain, both = PackedPreprocessor(augment=AUGMENT), None
    only = PackedPreprocessor(augment=RAND)
    both = PackedPreprocessor(augment=[*AUGMENT, dict(type='hkd_mm.RandAugment')])
    drawn = only.view_parameters(copies(0), 2)['RandAugment']['operation']
    assert not drawn.any()
    index = torch.cat([copies(1)[:200], copies(0)[200:]])
    drawn = only.view_parameters(index, 2)['RandAugment']
    free = both.view_parameters(index, 2)['RandAugment']
    assert torch.equal(drawn['operation'][:200], free['operation'][:200])
    assert drawn['operation'][:200].any(1).float().mean() > 0.8
    assert not drawn['operation'][200:].any()
    assert torch.equal(drawn['sign'], free['sign'])
    six = torch.arange(6)
    assert torch.equal(only.augment(photos, six, 1), plain.augment(photos, six, 1))
    assert not torch.equal(
        only.augment(photos, sample_id(six, six * 0 + 1), 1),
        plain.augment(photos, sample_id(six, six * 0 + 1), 1),
    )


def test_classes_and_copies_both_hold():
    config = dict(type='hkd_mm.RandAugment', copies_only=True, classes=[1])
    network = PackedPreprocessor(augment=[config])
    index = torch.cat([copies(0)[:200], copies(2)[200:]])
    labels = torch.arange(400) % 2
    drawn = network.view_parameters(index, 0, labels)['RandAugment']['operation']
    changed = drawn.any(1)
    assert not changed[:200].any() and not changed[labels == 0].any()
    assert changed[200:][labels[200:] == 1].float().mean() > 0.8


def test_the_fingerprint_tells_it_and_only_where_it_is_on():
    def told(**more):
        config = dict(type='hkd_mm.RandAugment', **more)
        return PackedPreprocessor(augment=[config]).fingerprint()

    assert told() == told(copies_only=False) != told(copies_only=True)
