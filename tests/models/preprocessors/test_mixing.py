# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Mixup and CutMix: shares, partners, targets."""

import numpy as np
import pytest
import torch
from scipy import stats

from hkd_mm.errors import UserError
from hkd_mm.models.preprocessors.augmentation import Draw
from hkd_mm.models.preprocessors.mixing import Mixup
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
