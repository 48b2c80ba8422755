# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""CRD against equation (18) and the authors' critic, in float64."""

import math

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.losses.crd_loss import CRDLoss


def naive_level(anchors, positives, others, labels, known, tau):
    """Mean of e^z over the positives and negatives of a batch."""
    found = []
    for i, anchor in enumerate(anchors):
        found.append(math.exp(anchor @ positives[i] / tau))
        found += [
            math.exp(anchor @ others[j] / tau)
            for j in range(len(others))
            if known[j] != labels[i]
        ]
    return sum(found) / len(found)


def naive_direction(anchors, positives, others, labels, known, tau, level):
    """Equation (18) anchor by anchor; others are any vectors with labels."""

    def critic(anchor, other, ratio):
        z = math.exp(anchor @ other / tau)
        return z / (z + ratio)

    total = 0
    for i, anchor in enumerate(anchors):
        negatives = [j for j in range(len(others)) if known[j] != labels[i]]
        ratio = max(len(negatives), 1) * level
        total -= math.log(critic(anchor, positives[i], ratio))
        total -= sum(math.log(1 - critic(anchor, others[j], ratio)) for j in negatives)
    return total / len(anchors)


def embedded(loss, side, feature):
    layer = getattr(loss, f'embed_{side}')
    weight, bias = (
        p.detach().numpy().astype(np.float64) for p in (layer.weight, layer.bias)
    )
    rows = feature @ weight.T + bias
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def data(n, seed, classes=3):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, 5)),
        rng.normal(size=(n, 7)),
        rng.integers(0, classes, n),
    )


def made(**kwargs):
    torch.manual_seed(0)
    loss = CRDLoss(dimensions=4, **kwargs)
    loss.build((1, 5), (1, 7))
    return loss


def run(loss, s, t, y, classes=3):
    return loss(
        torch.zeros(len(y), classes),
        torch.as_tensor(y),
        torch.as_tensor(s, dtype=torch.float32),
        torch.as_tensor(t, dtype=torch.float32),
    )


@pytest.mark.parametrize('n, tau', [(4, 0.1), (8, 0.5)])
def test_it_equals_the_paper(n, tau):
    s, t, y = data(n, seed=n)
    loss = made(tau=tau, loss_weight=0.8)
    g_s, g_t = embedded(loss, 'S', s), embedded(loss, 'T', t)
    expected = 0
    for mine, other in ((g_s, g_t), (g_t, g_s)):
        level = naive_level(mine, other, other, y, y, tau)
        expected += 0.8 * naive_direction(mine, other, other, y, y, tau, level)
    assert run(loss, s, t, y).item() == pytest.approx(expected, rel=1e-5)


def test_the_queue_adds_the_images_of_earlier_batches():
    loss = made(queue=6)
    batches = [data(4, seed) for seed in range(3)]
    values = [run(loss, *batch).item() for batch in batches]
    # The third batch meets all of the second and the first two of the first.
    past = [np.concatenate([a, b[:2]]) for a, b in zip(batches[1], batches[0])]
    s, t, y = batches[2]
    found = []
    for mine, other in ('ST', 'TS'):
        x, first = dict(S=s, T=t), dict(S=batches[0][0], T=batches[0][1])
        before = dict(S=past[0], T=past[1])
        positives = embedded(loss, other, x[other])
        began = [embedded(loss, side, first[side]) for side in (mine, other)]
        labels = batches[0][2]
        found += [
            naive_direction(
                embedded(loss, mine, x[mine]),
                positives,
                np.concatenate([positives, embedded(loss, other, before[other])]),
                y,
                np.concatenate([y, past[2]]),
                loss.tau,
                # of the first batch, for good
                naive_level(*began, began[1], labels, labels, loss.tau),
            )
        ]
    assert values[2] == pytest.approx(sum(found), rel=1e-5)
    assert loss.past_labels.tolist() == [*y, *batches[1][2][:2]]


def test_it_begins_as_a_guess_among_all():
    """-log h = log(1 + n) and n log(1 + 1/n), whatever tau and n are."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 6
    s, t = rng.normal(size=(48, 5)), rng.normal(size=(48, 7))
    for tau in (0.3, 1.0):
        torch.manual_seed(0)
        loss = CRDLoss(tau=tau, dimensions=128)
        loss.build((1, 5), (1, 7))
        expected = 2 * (math.log(41) + 40 * math.log1p(1 / 40))
        found = run(loss, s, t, labels, classes=6).item()
        assert found == pytest.approx(expected, rel=0.25)


def test_the_level_is_that_of_the_first_batch_of_training():
    loss = made().eval()
    first, second = data(6, 0), data(6, 1)
    run(loss, *first)
    assert loss.level_S.isnan() and loss.level_T.isnan()
    loss.train()
    value = run(loss, *first)
    kept = loss.level_S.clone(), loss.level_T.clone()
    run(loss, *second)
    assert torch.equal(loss.level_S, kept[0])
    again = made()
    again.load_state_dict(loss.state_dict())
    assert torch.equal(run(again, *first), value)


def test_an_empty_or_unused_queue_changes_nothing():
    batch = data(5, 0)
    one = run(made(), *batch)
    queued = made(queue=16)
    torch.testing.assert_close(run(queued, *batch), one)
    kept = queued.past_S.clone()
    queued.eval()
    run(queued, *data(5, 1))
    torch.testing.assert_close(queued.past_S, kept)
    run(made(queue=2), *batch)  # smaller than the batch


def test_a_case_by_hand():
    # Vectors (1, 0) and (0, 1) in both networks, tau 1, two classes: positives
    # z = 1, negatives z = 0, n = 1, E = (e + 1) / 2 = 1.859141:
    # ln(1 + E / e) + ln(1 + 1 / E) = 0.521136 + 0.430407 a direction.
    loss = CRDLoss(tau=1.0, dimensions=2)
    loss.build((1, 2), (1, 2))
    for layer in (loss.embed_S, loss.embed_T):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    found = run(loss, np.eye(2) * 3, np.eye(2), [0, 1], classes=2)
    assert found.item() == pytest.approx(2 * (0.521136 + 0.430407), abs=1e-5)


def test_images_of_one_class_are_no_negatives():
    s, t, _ = data(4, 0)
    loss = made()
    found = run(loss, s, t, [1, 1, 1, 1])
    g_s, g_t = embedded(loss, 'S', s), embedded(loss, 'T', t)
    z = (g_s * g_t).sum(1) / loss.tau  # the positives alone, both ways
    expected = 2 * np.mean(np.log1p(np.exp(z).mean() / np.exp(z)))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_both_layers_learn():
    loss = made()
    run(loss, *data(6, 0)).backward()
    assert all(p.grad.abs().max() > 0 for p in loss.parameters())
    assert len(list(loss.parameters())) == 4


@pytest.mark.parametrize(
    'kwargs, key',
    [
        (dict(tau=0), 'tau'),
        (dict(dimensions=0), 'dimensions'),
        (dict(queue=-1), 'queue'),
    ],
)
def test_values_out_of_range_name_the_key(kwargs, key):
    with pytest.raises(UserError, match=key):
        CRDLoss(**kwargs)
