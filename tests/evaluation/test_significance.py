# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Differences between methods, paired over seeds and images."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from hkd_mm.errors import UserError
from hkd_mm.evaluation.significance import (
    accuracy,
    balanced_accuracy,
    bootstrap_interval,
    holm,
    paired_difference,
)


def predictions(labels, rate, seeds, random, classes=3):
    """Nets that are right with a chance of ``rate``."""
    right = random.random((seeds, len(labels))) < rate
    other = random.integers(1, classes, (seeds, len(labels)))
    return np.where(right, labels, (labels + other) % classes)


def test_scores_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 200)
    chosen = random.integers(0, 4, 200)
    weights = random.integers(0, 5, 200).astype(float)
    for ours, theirs in (
        (balanced_accuracy, balanced_accuracy_score),
        (accuracy, accuracy_score),
    ):
        for given in (np.ones(200), weights):
            assert ours(labels, chosen, given) == pytest.approx(
                theirs(labels, chosen, sample_weight=given), rel=1e-12
            )


def test_a_class_that_was_not_drawn_is_left_out():
    labels, chosen = np.array([0, 0, 1]), np.array([0, 1, 1])
    weights = np.array([1.0, 1.0, 0.0])
    assert balanced_accuracy(labels, chosen, weights) == 0.5


def test_one_seed_and_single_images_are_a_paired_test_over_images():
    """Mean and standard error of d = right_method - right_baseline."""
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 400)
    ours = predictions(labels, 0.7, 1, random)
    theirs = predictions(labels, 0.6, 1, random)
    d = (ours[0] == labels).astype(float) - (theirs[0] == labels)
    found = paired_difference(
        labels, ours, theirs, np.arange(400), accuracy, resamples=4000
    )
    assert found.mean == pytest.approx(d.mean(), abs=1e-12)
    error = d.std() / 400**0.5
    assert found.high - found.low == pytest.approx(2 * 1.966 * error, rel=0.05)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(d.mean()) / error), rel=0.3)
    assert np.isnan(found.sd)


def test_many_images_leave_the_t_test_over_seeds():
    """Where images hardly vary, three seeds decide: t with 2 degrees."""
    labels = np.zeros(300_000, int)
    gains = np.array([0.02, 0.05, 0.09])
    ours = np.array(
        [np.arange(300_000) >= 300_000 * (0.5 + gain) for gain in gains], int
    )
    theirs = np.broadcast_to(np.arange(300_000) >= 150_000, ours.shape) * 1
    # groups of 1,000 neighbours would vary; single images hardly do
    found = paired_difference(
        labels, ours, theirs, np.arange(300_000), accuracy, resamples=50
    )
    expected = stats.ttest_1samp(gains, 0)
    assert found.p == pytest.approx(expected.pvalue, rel=0.02)
    low, high = expected.confidence_interval(0.95)
    assert found.low == pytest.approx(low, abs=2e-3)
    assert found.high == pytest.approx(high, abs=2e-3)


def test_images_of_a_lesion_count_as_one():
    random = np.random.default_rng(2)
    labels = np.repeat(random.integers(0, 3, 100), 5)
    ours = np.repeat(predictions(labels[::5], 0.7, 2, random), 5, axis=1)
    theirs = np.repeat(predictions(labels[::5], 0.6, 2, random), 5, axis=1)
    lesions = np.repeat(np.arange(100), 5)
    whole = paired_difference(labels, ours, theirs, lesions)
    one = paired_difference(labels[::5], ours[:, ::5], theirs[:, ::5], np.arange(100))
    naive = paired_difference(labels, ours, theirs, np.arange(500))
    assert whole.high - whole.low == pytest.approx(one.high - one.low, rel=1e-9)
    assert naive.high - naive.low < 0.9 * (whole.high - whole.low)


def test_false_alarms_are_as_rare_as_promised():
    """Two methods of one quality: p < 0.05 in at most about 1 of 20."""
    random = np.random.default_rng(3)
    alarms = 0
    for round_ in range(200):
        labels = random.integers(0, 3, 150)
        hard = random.random(150) * 0.6  # seeds share what is hard
        chosen = []
        for _ in range(6):
            luck = random.normal(0, 0.03)
            right = random.random(150) > hard + luck
            chosen.append(np.where(right, labels, (labels + 1) % 3))
        found = paired_difference(
            labels,
            np.array(chosen[:3]),
            np.array(chosen[3:]),
            np.arange(150),
            resamples=100,
            seed=round_,
        )
        alarms += found.p < 0.05
    assert alarms <= 18  # 10 expected; P(> 18) < 0.01 at one in twenty


def test_a_real_gain_is_found():
    random = np.random.default_rng(4)
    labels = random.integers(0, 3, 1000)
    ours = predictions(labels, 0.75, 3, random)
    theirs = predictions(labels, 0.6, 3, random)
    found = paired_difference(labels, ours, theirs, np.arange(1000))
    assert found.p < 0.01 and found.low > 0.05
    back = paired_difference(labels, theirs, ours, np.arange(1000))
    assert back.mean == -found.mean and back.p == pytest.approx(found.p)


def test_the_same_predictions_do_not_differ():
    labels = np.array([0, 1, 2] * 10)
    same = paired_difference(labels, [labels] * 3, [labels] * 3, range(30))
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_the_interval_of_a_share_is_that_of_a_binomial():
    labels, chosen = np.zeros(400, int), (np.arange(400) < 120) * 1
    low, high = bootstrap_interval(
        labels, chosen, np.arange(400), accuracy, resamples=4000
    )
    error = (0.7 * 0.3 / 400) ** 0.5
    assert low == pytest.approx(0.7 - 1.96 * error, abs=0.005)
    assert high == pytest.approx(0.7 + 1.96 * error, abs=0.005)
    # four images of a lesion are one: half as sure
    wide = bootstrap_interval(
        labels, chosen, np.arange(400) // 4, accuracy, resamples=4000
    )
    assert wide[1] - wide[0] == pytest.approx(2 * (high - low), rel=0.1)


def test_holm_by_hand():
    """0.01 * 4; 0.02 * 3; max(0.06, 0.03 * 2); max(0.06, 0.5 * 1)."""
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_samples_without_a_score_do_not_count():
    """Of few positives some samples have none."""

    def recall(labels, chosen, weights):
        positives = weights * labels
        if positives.sum() == 0:
            return float('nan')
        return float((positives * chosen).sum() / positives.sum())

    labels = np.zeros(100, int)
    labels[:3] = 1
    chosen = np.zeros((2, 100), int)
    chosen[:, 0] = 1
    low, high = bootstrap_interval(labels, chosen, range(100), recall)
    assert (low, high) == (0, 1)
    none = np.zeros(100, int)
    assert np.isnan(bootstrap_interval(none, chosen, range(100), recall)).all()


def test_one_lesion_says_nothing_of_others():
    labels = np.array([0, 1, 1])
    with pytest.raises(UserError, match='3 test images are of one lesion'):
        paired_difference(labels, [[0, 1, 1]], [[0, 0, 1]], ['a'] * 3)
