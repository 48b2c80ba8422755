# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The threshold of sure answers, by hand and by trying all."""

import numpy as np
import pytest

from hkd_mm.evaluation.selective import (
    answered,
    confidence_threshold,
    wilson_lower,
)


def test_wilson_by_hand() -> None:
    """9 of 10: spread = sqrt(0.09 / 10 + 3.841459 / 400) = 0.136395.

    z = 1.959964: (0.9 + 0.192073 - z * 0.136395) / 1.384146 = 0.595850.
    """
    found = wilson_lower(np.array([9]), np.array([10]))
    assert found[0] == pytest.approx(0.595850, abs=2e-6)
    # all of 35 right reach 0.9, all of 34 do not: n / (n + 3.8415)
    assert wilson_lower(np.array([35]), np.array([35]))[0] > 0.9
    assert wilson_lower(np.array([34]), np.array([34]))[0] < 0.9


def _by_trying(scores, labels, wanted):
    found = None
    confidence = np.floor(scores.max(1) * 1e6) / 1e6
    for probability in sorted(set(confidence), reverse=True):
        sure = confidence >= probability
        right = (scores.argmax(1) == labels)[sure]
        count, share = len(right), right.mean()
        z = 1.959963984540054
        middle = share + z * z / (2 * count)
        spread = share * (1 - share) / count + z * z / (4 * count * count)
        low = (middle - z * spread**0.5) / (1 + z * z / count)
        if low >= wanted:
            found = probability
    return found


@pytest.mark.parametrize('seed', range(5))
def test_is_the_smallest_that_keeps_the_rule(seed) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, 300)
    logits = random.normal(size=(300, 3)).round(1)  # many are equal
    logits[np.arange(300), labels] += 2.5
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = confidence_threshold(scores, labels, 0.9)
    assert found.probability == _by_trying(scores, labels, 0.9)
    again = answered(scores, labels, found.probability)
    assert again == found


def test_nothing_is_sure_on_few_images() -> None:
    scores = np.tile([[0.99, 0.01]], (34, 1))
    labels = np.zeros(34, int)
    assert confidence_threshold(scores, labels, 0.9) == (None, 0.0, 0.0, 34)
    assert answered(scores, labels, None).coverage == 0
    more = confidence_threshold(
        np.tile([[0.99, 0.01]], (35, 1)), np.zeros(35, int), 0.9
    )
    assert more == (0.99, 1.0, 1.0, 35)


def test_equal_probabilities_come_together() -> None:
    """100 right ones at 0.9, and at 0.8 a right half that comes as one."""
    confidence = np.array([0.9] * 100 + [0.8] * 100)
    scores = np.stack([confidence, 1 - confidence], 1)
    labels = np.array([0] * 150 + [1] * 50)
    found = confidence_threshold(scores, labels, 0.9)
    assert found == (0.9, 0.5, 1.0, 200)
    assert confidence_threshold(scores[::-1], labels[::-1], 0.9) == found


def test_photographs_of_a_lesion_count_as_one() -> None:
    """35 lesions of two right photographs are 35 right answers, not 70.

    A 36th lesion, one of two right: share 0.986111, n = 36; lower end
    (0.986111 + 0.053354 - z * sqrt(0.000380 + 0.000741)) / 1.106707 = 0.8799.
    """
    lesions = np.repeat(np.arange(35), 2)
    scores = np.tile([[0.99, 0.01]], (70, 1))
    labels = np.zeros(70, int)
    assert confidence_threshold(scores, labels, 0.9, lesions)[0] == 0.99
    fewer = slice(2, None)
    assert confidence_threshold(scores[fewer], labels[fewer], 0.9)[0] == 0.99
    found = confidence_threshold(scores[fewer], labels[fewer], 0.9, lesions[fewer])
    assert found == (None, 0.0, 0.0, 68)
    labels = np.append(labels, [0, 1])
    scores = np.tile([[0.99, 0.01]], (72, 1))
    lesions = np.append(lesions, [99, 99])
    assert confidence_threshold(scores, labels, 0.8805, lesions)[0] is None
    found = confidence_threshold(scores, labels, 0.8795, lesions)
    assert found[:2] == (0.99, 1.0) and found.n == 72
    assert found.accuracy == pytest.approx(35.5 / 36)


@pytest.mark.parametrize('seed', range(5))
def test_lesions_by_trying(seed) -> None:
    random = np.random.default_rng(seed)
    scores = random.uniform(size=400).round(2)
    scores = np.stack([scores, 1 - scores], 1)
    labels = scores.argmax(1)
    labels[random.uniform(size=400) < 0.05] ^= 1
    lesions = random.integers(0, 250, 400)
    wanted, share = None, 0.0
    right = scores.argmax(1) == labels
    confidence = np.floor(scores.max(1) * 1e6) / 1e6
    for probability in sorted(set(confidence), reverse=True):
        sure = confidence >= probability
        means = [
            right[sure & (lesions == one)].mean() for one in set(lesions[sure].tolist())
        ]
        low = wilson_lower(np.sum(means), np.float64(len(means)))
        if low >= 0.9:
            wanted, share = probability, np.mean(means)
    found = confidence_threshold(scores, labels, 0.9, lesions)
    assert wanted is not None and found.probability == wanted
    assert found.accuracy == pytest.approx(share)
    assert answered(scores, labels, wanted, lesions) == (
        found._replace(accuracy=pytest.approx(share))
    )
