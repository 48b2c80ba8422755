# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The queue against the formula, in float64, and what enters it."""

import numpy as np
import pytest
import torch

from hkd_mm.config.data_summary import queue_size
from hkd_mm.errors import UserError
from hkd_mm.models.losses.queue_loss import QueueDistillLoss


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def naive(s, t, queue, tau, teacher_tau, own):
    """Mean over the images of KL, and of the cross-entropy of the paper."""
    divergence = entropy = 0.0
    for mine, other in zip(unit(s), unit(t), strict=True):
        rows = [other, *queue] if own else queue
        p = softmax(np.array([other @ row for row in rows]) / teacher_tau)
        q = softmax(np.array([mine @ row for row in rows]) / tau)
        divergence += sum(a * np.log(a / b) for a, b in zip(p, q) if a > 0)
        entropy -= sum(a * np.log(b) for a, b in zip(p, q))
    return divergence / len(s), entropy / len(s)


def tensors(*arrays):
    return [torch.tensor(np.asarray(a), dtype=torch.float32) for a in arrays]


def made(width=6, **kwargs):
    loss = QueueDistillLoss(**kwargs)
    loss.build((1, width), (1, width))
    return loss


@pytest.mark.parametrize('own', [False, True])
@pytest.mark.parametrize('tau, teacher_tau', [(0.07, None), (0.2, 0.01), (0.5, 2.0)])
def test_it_is_the_formula_step_by_step(own, tau, teacher_tau):
    """Four batches: the queue is empty, half filled, full, and moves on."""
    rng = np.random.default_rng(1)
    words = dict(tau=tau, teacher_tau=teacher_tau, own=own, loss_weight=2.0)
    loss = made(queue=7, **words)
    queue = []
    for n in (4, 2, 5, 3):
        s, t = rng.normal(size=(2, n, 6)) + 0.3
        new = list(unit(t))
        wanted, _ = naive(s, t, queue or new, tau, teacher_tau or tau, own)
        assert loss(*tensors(s, t)).item() == pytest.approx(2 * wanted, rel=2e-4)
        queue = (new + queue)[:7]
        assert loss.filled == len(queue)
        found = loss.past[: len(queue)].numpy()
        np.testing.assert_allclose(found, queue, atol=1e-6)
    # an evaluation changes nothing
    before = loss.past.clone()
    loss.eval()(*tensors(s, t))
    assert torch.equal(loss.past, before)


def with_queue(rows, **kwargs):
    loss = made(len(rows[0]), queue=len(rows), **kwargs).eval()
    loss.past.copy_(*tensors(rows))
    loss.filled.fill_(len(rows))
    return loss


def test_a_case_by_hand():
    """Teacher (1, 0), student (0, 1), both axes in the queue, temperature 1."""
    s, t = tensors([[0.0, 1.0]], [[1.0, 0.0]])
    axes = [[1.0, 0.0], [0.0, 1.0]]
    found = with_queue(axes, tau=1.0)(s, t)
    assert found.item() == pytest.approx(0.46212, abs=1e-5)
    divergence, entropy = naive(s.numpy(), t.numpy(), axes, 1, 1, False)
    assert divergence == pytest.approx(0.46212, abs=1e-5)
    assert entropy == pytest.approx(1.04432, abs=1e-5)
    # lengths say nothing, nor does the order of the queue
    again = with_queue(axes[::-1], tau=1.0)(5 * s, 0.1 * t)
    torch.testing.assert_close(again, found)


def test_a_cold_teacher_makes_it_contrast():
    """At a small temperature of the teacher the target is the own vector alone."""
    s, t = np.random.default_rng(2).normal(size=(2, 4, 6))
    queue = unit(np.random.default_rng(3).normal(size=(9, 6)))
    words = dict(tau=0.2, own=True)
    found = with_queue(queue, teacher_tau=1e-4, **words)(*tensors(s, t)).item()
    scores = np.concatenate([(unit(s) * unit(t)).sum(1)[:, None], unit(s) @ queue.T], 1)
    wanted = np.mean([-np.log(softmax(row / 0.2)[0]) for row in scores])
    assert found == pytest.approx(wanted, rel=1e-4)


def test_the_gradient_is_that_of_the_paper_and_none_reaches_the_teacher():
    s, t = tensors(*np.random.default_rng(4).normal(size=(2, 4, 6)))
    queue = torch.tensor(unit(np.random.default_rng(5).normal(size=(9, 6)))).float()
    s, t = s.requires_grad_(), t.requires_grad_()
    with_queue(queue.numpy(), tau=0.1)(s, t).backward()
    assert t.grad is None
    again = s.detach().clone().requires_grad_()
    normal = torch.nn.functional.normalize
    target = (normal(t.detach()) @ queue.T / 0.1).softmax(1)
    scores = normal(again) @ queue.T / 0.1
    torch.nn.functional.cross_entropy(scores, target).backward()
    torch.testing.assert_close(s.grad, again.grad, rtol=1e-4, atol=1e-6)


def test_the_queue_goes_on_from_a_checkpoint():
    s, t = tensors(*np.random.default_rng(6).normal(size=(2, 5, 6)))
    one = made(queue=8)
    one(s, t)
    saved = one.state_dict()
    assert {'past', 'filled'} <= saved.keys()
    two = made(queue=8)
    two.load_state_dict(saved, strict=True)
    torch.testing.assert_close(two(s, t), one(s, t), rtol=0, atol=0)
    assert torch.equal(two.past, one.past) and two.filled == one.filled == 8


def test_the_gradient_outlives_the_step_that_moves_the_queue():
    s, t = tensors(*np.random.default_rng(7).normal(size=(2, 5, 6)))
    loss = made(queue=8)
    loss(s, t)
    values = [loss(s.requires_grad_(), t), loss(s, t)]
    sum(values).backward()
    assert s.grad.isfinite().all()


def test_a_batch_larger_than_the_queue_leaves_its_first_rows():
    s, t = tensors(*np.random.default_rng(8).normal(size=(2, 5, 6)))
    loss = made(queue=3)
    loss(s, t)
    np.testing.assert_allclose(loss.past.numpy(), unit(t.numpy())[:3], atol=1e-6)


@pytest.mark.parametrize(
    'images, batch, expected',
    [
        (1, 1, 1),
        (10, 4, 4),
        (10, 10, 9),
        (150, 64, 64),
        (600, 64, 128),
        (7010, 64, 1024),
        (20_264, 64, 4096),
        (10**6, 64, 8192),
    ],
)
def test_a_queue_that_suits_the_data(images, batch, expected):
    assert queue_size(images, batch) == expected


def test_arguments_out_of_range():
    for words in (dict(queue=0), dict(tau=0), dict(teacher_tau=-1.0)):
        with pytest.raises(UserError, match=next(iter(words))):
            QueueDistillLoss(**words)
