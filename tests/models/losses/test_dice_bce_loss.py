# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DiceBCELoss pixel by pixel, written out in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.dense_losses import DiceBCELoss


def naive_probabilities(pixel):
    """Of one pixel's logits, the background first."""
    if len(pixel) == 1:
        p = 1 / (1 + math.exp(-pixel[0]))
        return [1 - p, p]
    raised = [math.exp(x - max(pixel)) for x in pixel]
    return [x / sum(raised) for x in raised]


def naive(logits, masks, smooth):
    entropies, dices = [], []
    for image, mask in zip(logits, masks):
        entropy = []
        classes = max(len(image), 2)
        both, either = [0.0] * classes, [0.0] * classes
        for y, x in np.ndindex(mask.shape):
            if mask[y, x] == 255:
                continue
            p = naive_probabilities([plane[y, x] for plane in image])
            entropy.append(-math.log(p[mask[y, x]]))
            for k in range(classes):
                truth = float(mask[y, x] == k)
                both[k] += p[k] * truth
                either[k] += p[k] + truth
        entropies.append(sum(entropy) / max(len(entropy), 1))
        dices += [
            (2 * both[k] + smooth) / (either[k] + smooth) for k in range(1, classes)
        ]
    return sum(entropies) / len(entropies), 1 - sum(dices) / len(dices)


def batch(classes, seed=0, ignored=0.2):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, classes, 5, 4)) * 3
    masks = rng.integers(0, max(classes, 2), (3, 5, 4))
    masks[rng.random(masks.shape) < ignored] = 255
    return logits, masks


def parts(loss, logits, masks):
    found = loss(torch.as_tensor(logits, dtype=torch.float32), torch.as_tensor(masks))
    assert list(found) == ['loss_bce', 'loss_dice']
    return [value.item() for value in found.values()]


@pytest.mark.parametrize('classes', [1, 2, 3, 6])
@pytest.mark.parametrize(
    'alpha, beta, smooth, weight',
    [(1, 1, 1.0, 1), (0.3, 2.0, 1e-5, 1), (0, 1, 7.0, 3)],
)
def test_it_equals_its_definition(classes, alpha, beta, smooth, weight):
    logits, masks = batch(classes)
    found = parts(DiceBCELoss(alpha, beta, smooth, loss_weight=weight), logits, masks)
    entropy, dice = naive(logits, masks, smooth)
    expected = [weight * alpha * entropy, weight * beta * dice]
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_case_by_hand():
    # p = 1/2, 3/4, 1/2, 9/10 for the masks 0, 1, 1, 255: entropy
    # (log 2 + log 4/3 + log 2) / 3 = 0.557991; both 3/4 + 1/2 = 1.25, either
    # 1.75 + 2 = 3.75, Dice (2.5 + 1) / (3.75 + 1) = 0.736842
    logits = torch.tensor([0.0, math.log(3), 0.0, math.log(9)])
    masks = torch.tensor([0, 1, 1, 255])
    found = DiceBCELoss()(logits.view(1, 1, 2, 2), masks.view(1, 2, 2))
    assert found['loss_bce'].item() == pytest.approx(0.557991, rel=1e-5)
    assert found['loss_dice'].item() == pytest.approx(0.263158, rel=1e-5)


def test_an_empty_mask_is_right_when_nothing_is_predicted():
    masks = torch.zeros(1, 4, 4, dtype=torch.int64)

    def dice(score):
        logits = torch.full((1, 1, 4, 4), score)
        return DiceBCELoss()(logits, masks)['loss_dice'].item()

    assert dice(-50.0) == pytest.approx(0, abs=1e-6)
    assert dice(0.0) == pytest.approx(1 - 1 / 9)  # sum of p is 8
    assert dice(50.0) == pytest.approx(1 - 1 / 17)


def test_ignored_pixels_have_no_gradient():
    logits, masks = batch(3)
    logits = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    masks = torch.as_tensor(masks)
    sum(DiceBCELoss()(logits, masks).values()).backward()
    ignored = (masks == 255)[:, None].expand_as(logits)
    assert ignored.any() and not logits.grad[ignored].any()
    assert logits.grad[~ignored].all()


def test_an_image_of_ignored_pixels_alone_is_defined():
    logits, masks = batch(2, ignored=0)
    masks[1] = 255
    found = parts(DiceBCELoss(), logits, masks)
    assert found == pytest.approx(naive(logits, masks, 1.0), rel=1e-5)


def test_two_halves_of_a_batch_make_its_gradient():
    # processes average: as many pixels need not be ignored in each
    logits, masks = batch(1)
    whole = parts(DiceBCELoss(), logits, masks)
    each = [parts(DiceBCELoss(), logits[i : i + 1], masks[i : i + 1]) for i in range(3)]
    assert np.mean(each, axis=0) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize('classes, wrong', [(1, 2), (1, -1), (3, 3), (3, -2)])
def test_a_label_out_of_range_is_refused(classes, wrong):
    logits, masks = batch(classes)
    masks[0, 0, 0] = wrong
    for alpha in (0.0, 1.0):
        with pytest.raises(RuntimeError):
            parts(DiceBCELoss(alpha), logits, masks)


def test_what_is_no_mask_is_refused():
    logits = torch.randn(2, 1, 4, 4)
    with pytest.raises(UserError, match='mask'):
        DiceBCELoss()(logits, torch.tensor([0, 1]))
    for name in ('alpha', 'beta', 'smooth', 'loss_weight'):
        with pytest.raises(UserError, match=name):
            DiceBCELoss(**{name: -1.0})
