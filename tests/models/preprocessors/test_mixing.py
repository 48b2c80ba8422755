# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Mixup and CutMix: shares, partners, targets."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from hkd_mm.errors import UserError
from hkd_mm.models.preprocessors.augmentation import Draw
from hkd_mm.models.preprocessors.counter_rng import uniform_by_name
from hkd_mm.models.preprocessors.mixing import Mixup, Partners
from hkd_mm.models.preprocessors.packed_preprocessor import PackedPreprocessor
from hkd_mm.models.preprocessors.pipeline import Pipeline


def preprocessor(*names, **arguments):
    return PackedPreprocessor(
        mean=[0] * 3,
        std=[1] * 3,
        num_classes=4,
        augment=[dict(type=f'hkd_mm.{n}', **arguments) for n in names],
    )


def batch(size=16, side=24):
    """Images of one value each, so that a mixture tells its parts."""
    values = torch.arange(1, size + 1) * 10
    images = values[:, None, None, None].expand(-1, side, side, 3)
    return dict(
        inputs=images.to(torch.uint8).contiguous(),
        labels=torch.arange(size) % 4,
        index=torch.arange(size) * 31,
    )


@pytest.mark.parametrize('alpha', [0.1, 0.2, 0.8, 1.0, 3.0])
def test_quantiles_of_the_beta_distribution(alpha):
    numbers = torch.linspace(0, 1 - 2**-24, 2001)[:, None].expand(-1, 5)
    drawn = Mixup(alpha=alpha).parameters(Draw(numbers, None, 0, 0, 'Mixup'))
    want = stats.beta.ppf(numbers[:, 2].double().numpy(), alpha, alpha)
    assert np.abs(drawn['keep'].numpy()[:-1] - want[:-1]).max() < 1e-6


def test_mixup_is_the_weighted_mean_of_images_and_targets():
    data = batch()
    mixed = preprocessor('Mixup', alpha=0.8)
    drawn = mixed.view_parameters(data['index'], 0)['Mixup']
    found = mixed(data, training=True)
    keep, partner = drawn['keep'], drawn['partner']
    assert (partner != torch.arange(16)).all()
    assert sorted(partner.tolist()) == list(range(16))
    values = data['inputs'][:, 0, 0, 0].float()
    want = keep * values + (1 - keep) * values[partner]
    assert (found['inputs'] - want[:, None, None, None]).abs().max() < 1e-4
    hot = torch.eye(4)[data['labels']]
    want = keep[:, None] * hot + (1 - keep[:, None]) * hot[partner]
    scores = found['data_samples'].gt_scores
    assert torch.allclose(scores, want, atol=1e-6)
    assert torch.allclose(scores.sum(1), torch.ones(16))


def test_cutmix_pastes_one_box_and_counts_its_pixels():
    data = batch()
    mixed = preprocessor('CutMix')
    drawn = mixed.view_parameters(data['index'], 0)['CutMix']
    found = mixed(data, training=True)
    values = data['inputs'][:, 0, 0, 0].float()
    pasted = found['inputs'][:, 0] != values[:, None, None]
    for i in range(16):
        rows, columns = pasted[i].any(1).sum(), pasted[i].any(0).sum()
        assert pasted[i].sum() == rows * columns  # a box
        assert (found['inputs'][i][:, pasted[i]] == values[drawn['partner'][i]]).all()
        assert abs(rows * columns / 576 - (1 - drawn['keep'][i])) < 0.05
        own = 1 - pasted[i].float().mean()
        score = found['data_samples'].gt_scores[i, data['labels'][i]]
        assert score >= own - 1e-6  # more if the partner's class is the same


def test_prob_and_evaluation():
    data = batch()
    never = preprocessor('Mixup', 'CutMix', prob=0.0)
    found = never(data, training=True)
    assert torch.equal(found['inputs'], data['inputs'].permute(0, 3, 1, 2).float())
    assert torch.equal(found['data_samples'].gt_scores, torch.eye(4)[data['labels']])
    evaluated = preprocessor('Mixup')(data)
    assert evaluated['data_samples'].gt_scores is None


def test_a_mixture_depends_on_who_is_in_the_batch_and_not_on_the_order():
    data = batch()
    mixed = preprocessor('Mixup')
    assert mixed.batch_dependent and not preprocessor('HorizontalFlip').batch_dependent
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    found = mixed(data, training=True)['inputs']
    shuffled = mixed({k: v[order] for k, v in data.items()}, training=True)
    assert torch.allclose(found[order], shuffled['inputs'])
    # The own share is the sample's, whatever the batch.
    alone = mixed.view_parameters(data['index'][3:9], 0)['Mixup']['keep']
    together = mixed.view_parameters(data['index'], 0)['Mixup']['keep']
    assert torch.equal(alone, together[3:9])


def test_what_cannot_be_is_told():
    with pytest.raises(UserError, match='num_classes'):
        PackedPreprocessor(augment=[dict(type='hkd_mm.Mixup')])
    with pytest.raises(UserError, match='Rotate comes after Mixup'):
        Pipeline([dict(type='hkd_mm.Mixup'), dict(type='hkd_mm.Rotate')])


AUGMENT = [
    dict(type='hkd_mm.HorizontalFlip'),
    dict(type='hkd_mm.Rotate', degrees=30),
    dict(type='hkd_mm.RandAugment', classes=[0, 2]),
]
MIXING = [
    dict(type='hkd_mm.CutMix', prob=0.6),
    dict(type='hkd_mm.Mixup', alpha=0.8, prob=0.7, own_larger=True),
]


class Split:
    """A split of random images, as a ``PackedDataset`` hands them out."""

    store = None

    def __init__(self, size=23, side=24):
        generator = torch.Generator().manual_seed(size)
        shape = (size, side, side, 3)
        self.images = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
        self.labels = torch.randint(0, 4, (size,), generator=generator)
        self.index = torch.randperm(size, generator=generator) * 7 + (3 << 32)

    def __getitems__(self, rows):
        rows = torch.as_tensor(rows)
        images, labels, index = (
            x[rows] for x in (self.images, self.labels, self.index)
        )
        return dict(inputs=images, labels=labels, index=index)

    @property
    def all(self):
        return self.__getitems__(range(len(self.index)))


def with_partners(data, view=3, augment=(*AUGMENT, *MIXING), **arguments):
    settings = dict(mean=[120, 110, 100], std=[50, 60, 70], num_classes=4)
    found = PackedPreprocessor(
        augment=augment, partners='split', **settings, **arguments
    )
    found.set_split(data)
    found.set_epoch(view)
    return found


def partner_of(data, seed, view):
    """Position of each sample's partner, by ranks in plain Python."""
    numbers = uniform_by_name(seed, view, data.index, dict(partner=1))['partner']
    ranked = sorted(zip(numbers[:, 0].tolist(), data.index.tolist()))
    follows = {
        one: other for (_, one), (_, other) in zip(ranked, ranked[1:] + ranked[:1])
    }
    places = {name: place for place, name in enumerate(data.index.tolist())}
    return [places[follows[name]] for name in data.index.tolist()]


def test_a_mixed_view_is_that_of_a_float64_reference():
    data, view = Split(), 3
    mixed = with_partners(data, view)
    found = mixed(data.all, training=True)
    plain = with_partners(data, view, AUGMENT)
    views = plain(data.all, training=True)['inputs'].double().numpy()
    drawn = mixed.view_parameters(data.index, view)
    targets = np.eye(4)[data.labels.numpy()]
    numbers = uniform_by_name(
        mixed.seed, view, data.index, dict.fromkeys(('CutMix', 'Mixup'), 5)
    )
    for i, other in enumerate(partner_of(data, mixed.seed, view)):
        image, target = views[i].copy(), targets[i].copy()
        _, on, uniform, top, left = numbers['CutMix'][i].double().tolist()
        if on < 0.6:
            area = (1 - stats.beta.ppf(uniform, 1, 1)) * 576
            side = min(max(round(area**0.5), 1), 24)
            rows, columns = (int(x * (24 - side + 1)) for x in (top, left))
            box = np.s_[:, rows : rows + side, columns : columns + side]
            image[box] = views[other][box]
            keep = 1 - side**2 / 576
            target = keep * target + (1 - keep) * targets[other]
        _, on, uniform, _, _ = numbers['Mixup'][i].double().tolist()
        if on < 0.7:
            keep = stats.beta.ppf(uniform, 0.8, 0.8)
            keep = max(keep, 1 - keep)
            assert drawn['Mixup']['keep'][i] == pytest.approx(keep, abs=1e-6)
            image = keep * image + (1 - keep) * views[other]
            target = keep * target + (1 - keep) * targets[other]
        assert np.abs(found['inputs'][i].double().numpy() - image).max() < 1e-5
        score = found['data_samples'].gt_scores[i].double().numpy()
        assert np.abs(score - target).max() < 1e-6
    shares = drawn['Mixup']['keep']
    assert (shares == 1).any() and (shares < 1).any() and (shares >= 0.5).all()


def test_a_share_below_half_goes_to_the_partner_where_the_own_is_larger():
    numbers = torch.tensor([[0.5, 0, 0.3, 0, 0], [0.5, 0, 0.6, 0, 0]])
    draw = Draw(numbers, None, 0, 0, 'Mixup')
    for larger, want in ((True, [0.7, 0.6]), (False, [0.3, 0.6])):
        keep = Mixup(own_larger=larger).parameters(draw)['keep']
        assert keep.tolist() == pytest.approx(want)


def test_each_sample_of_a_split_is_a_partner_once_a_view_and_never_its_own():
    data, turned = Split(300), Split(300)
    order = torch.arange(299, -1, -1)
    for name in ('images', 'labels', 'index'):
        setattr(turned, name, getattr(turned, name)[order])
    found, other = Partners(data), Partners(turned)
    seen = []
    for seed, view in ((1, 0), (1, 1), (2, 0), (1, 0)):
        mine = found.of(data.index, seed, view)['index']
        assert torch.equal(mine.sort()[0], data.index.sort()[0])
        assert (mine != data.index).all()
        assert torch.equal(other.of(data.index, seed, view)['index'], mine)
        assert mine.tolist() == data.index[partner_of(data, seed, view)].tolist()
        seen.append(mine)
    assert torch.equal(seen[0], seen[3])
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert (seen[one] == seen[two]).float().mean() < 0.05


@pytest.mark.parametrize('side', [24, 31])
def test_with_partners_of_the_split_a_view_does_not_depend_on_the_batch(side):
    """Bit by bit, for any batch size, order and neighbours; the cache's too."""
    data = Split(23, side)
    mixed = with_partners(data)
    assert not mixed.batch_dependent
    whole = mixed(data.all, training=True)
    scores = whole['data_samples'].gt_scores
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    for size in (1, 2, 5, 16, 23):
        for rows in order.split(size):
            part = data.__getitems__(rows)
            found = mixed(part, training=True)
            assert torch.equal(found['inputs'], whole['inputs'][rows])
            assert torch.equal(found['data_samples'].gt_scores, scores[rows])
            again = with_partners(data, view=0).augment(
                part['inputs'], part['index'], 3, part['labels']
            )
            assert torch.equal(again, found['inputs'])
    plain = mixed(data.all)
    assert plain['data_samples'].gt_scores is None


def test_partners_and_shares_are_part_of_the_fingerprint():
    augments = MIXING[:1], [dict(MIXING[0], own_larger=True)]
    found = {
        PackedPreprocessor(
            augment=augment, num_classes=4, partners=partners
        ).fingerprint(plain)
        for augment in augments
        for partners in ('batch', 'split')
        for plain in (False, True)
    }
    assert len(found) == 4 + 1


def test_partners_that_cannot_be_found_are_told():
    data = Split()
    mixed = with_partners(data)
    with pytest.raises(UserError, match='PackedDataset, not SimpleNamespace;.*=batch'):
        mixed.set_split(SimpleNamespace())
    alone = PackedPreprocessor(augment=MIXING, num_classes=4, partners='split')
    with pytest.raises(UserError, match='hkd_mm.ViewHook'):
        alone(data.all, training=True)
    with pytest.raises(UserError, match="partners: .*'batch' or 'split'"):
        PackedPreprocessor(partners='dataset')
