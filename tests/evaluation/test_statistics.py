# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Statistics of a report, by hand or against scikit-learn."""

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from hkd_mm.evaluation.agreement import (
    agreement_by_class,
    pareto_front,
    teacher_only_correct,
)
from hkd_mm.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    log_loss,
    softmax,
    tempered,
)
from hkd_mm.evaluation.classification_scores import (
    confusion_shares,
    f1_by_class,
)
from hkd_mm.evaluation.operating_points import (
    FALSE_ALARMS,
    mean_roc,
    sensitivity_at,
)
from hkd_mm.evaluation.selective import best_aurc, risk_coverage


def drawn(count=400, classes=4, seed=0):
    """Labels that are drawn from the probabilities: perfectly calibrated."""
    random = np.random.default_rng(seed)
    scores = softmax(2 * random.normal(size=(count, classes)))
    labels = np.array([random.choice(classes, p=row) for row in scores])
    return scores, labels


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.5])
def test_the_temperature_of_drawn_scores_is_found(temperature):
    scores, labels = drawn(20_000)
    found = fit_temperature(tempered(scores, 1 / temperature), labels)
    assert found == pytest.approx(temperature, rel=0.04)


def test_softmax_is_scipys():
    logits = 1e3 * np.random.default_rng(1).normal(size=(5, 3, 2, 2))
    expected = special.softmax(logits / 2.5, axis=1)
    assert softmax(logits, 2.5) == pytest.approx(expected)
    assert softmax(logits.astype(np.float32)).dtype == np.float32


def test_the_temperature_divides_the_logits():
    logits = np.random.default_rng(1).normal(size=(50, 3))
    expected = special.softmax(logits / 2.5, axis=1)
    assert tempered(softmax(logits), 2.5) == pytest.approx(expected)
    hard = np.array([[1.0, 0.0], [0.0, 1.0]])  # zeros stay finite
    assert np.isfinite(tempered(hard, 3.0)).all()


def test_log_loss_is_scikit_learns():
    scores, labels = drawn()
    expected = metrics.log_loss(labels, scores)
    assert log_loss(scores, labels) == pytest.approx(expected)


def test_the_calibration_error_by_hand():
    # bins of a half: (0.4, 0.45) none right, (0.9, 0.8, 0.7) two right
    confidence = np.array([0.4, 0.45, 0.9, 0.8, 0.7])
    scores = np.stack([confidence, *np.tile((1 - confidence) / 2, (2, 1))], 1)
    labels = np.array([1, 2, 0, 0, 1])
    expected = 2 / 5 * 0.425 + 3 / 5 * (0.8 - 2 / 3)
    found = expected_calibration_error(scores, labels, 2)
    assert found == pytest.approx(expected)


def test_risk_and_coverage_by_hand():
    # confidences 0.9, 0.8, 0.7, 0.6; right, wrong, right, wrong
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    labels = np.array([1, 1, 0, 0])
    order = [2, 0, 3, 1]  # the order of the images does not matter
    coverage, risk = risk_coverage(scores[order], labels[order])
    assert coverage == pytest.approx([0.25, 0.5, 0.75, 1])
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    # (0 + 1/2 + 1/3 + 1/2) / 4 = 1/3
    assert risk.mean() == pytest.approx(1 / 3)
    # two errors last: (0 + 0 + 1/3 + 2/4) / 4
    assert best_aurc(0.5, 4) == pytest.approx((1 / 3 + 1 / 2) / 4)


def test_equal_confidence_counts_as_its_mean():
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    for labels in ([0, 1, 0], [1, 0, 0]):
        _, risk = risk_coverage(scores, np.array(labels))
        assert risk == pytest.approx([1 / 2, 1 / 2, 1 / 3])


def test_sensitivity_at_a_specificity_by_hand():
    # falling: + - + - - + - - - -, three of them and seven others
    truth = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0, 0])
    scores = np.linspace(0.95, 0.05, 10)
    ones = np.ones(10)
    # one alarm of seven leaves 6/7 = 0.857: two of three are found
    assert sensitivity_at(truth, scores, ones, 0.85) == pytest.approx(2 / 3)
    # no alarm is allowed at 0.9, as 6/7 < 0.9: one of three
    assert sensitivity_at(truth, scores, ones, 0.9) == pytest.approx(1 / 3)
    assert sensitivity_at(truth, scores, ones, 0.0) == 1
    # an equal score cannot be parted by a threshold
    tied = scores.copy()
    tied[1] = tied[0]
    assert sensitivity_at(truth, tied, ones, 0.9) == 0
    # an alarm that counts nothing costs nothing
    weights = ones.copy()
    weights[1] = 0
    found = sensitivity_at(truth, scores, weights, 0.9)
    assert found == pytest.approx(2 / 3)
    assert np.isnan(sensitivity_at(truth * 0, scores, ones, 0.9))


def test_sensitivity_at_is_on_the_curve_of_scikit_learn():
    scores, labels = drawn()
    truth = labels == 1
    fpr, tpr, _ = metrics.roc_curve(truth, scores[:, 1], drop_intermediate=False)
    for specificity in (0.5, 0.9, 0.95):
        expected = tpr[fpr <= 1 - specificity + 1e-12].max()
        found = sensitivity_at(truth, scores[:, 1], np.ones(400), specificity)
        assert found == pytest.approx(expected)


def test_the_mean_curve_has_the_mean_area():
    scores, labels = drawn(4000)
    both = np.stack([scores[:, 1], scores[:, 1] + scores[:, 2]])
    areas = [metrics.roc_auc_score(labels == 1, row) for row in both]
    found = metrics.auc(FALSE_ALARMS, mean_roc(labels == 1, both))
    assert found == pytest.approx(np.mean(areas), abs=0.005)


def test_the_pareto_front_by_hand():
    costs = [1, 2, 3, 1, 4, 1]
    gains = [0.5, 0.4, 0.7, 0.5, 0.7, 0.3]
    # 0 and 3 are equal and both cheapest; 1 costs more for less; 2 is best;
    # 4 is as good as 2 and dearer; 5 is as cheap as 0 and worse
    expected = [True, False, True, True, False, False]
    assert pareto_front(costs, gains).tolist() == expected


def test_f1_and_confusion_are_scikit_learns():
    labels = np.random.default_rng(2).integers(0, 3, 200)  # never class 3
    chosen = np.random.default_rng(5).integers(0, 4, (2, 200))
    expected = np.mean(
        [
            metrics.f1_score(labels, row, labels=range(4), average=None)
            for row in chosen
        ],
        0,
    )
    found = f1_by_class(labels, chosen, 4)
    assert found[:3] == pytest.approx(expected[:3]) and np.isnan(found[3])
    expected = np.mean(
        [
            metrics.confusion_matrix(labels, row, labels=range(4), normalize='true')
            for row in chosen
        ],
        0,
    )
    found = confusion_shares(labels, chosen, 4)
    assert found[:3] == pytest.approx(expected[:3])
    assert np.isnan(found[3]).all()


def test_agreement_by_hand():
    labels = np.array([0, 0, 1, 1, 1])
    one, other = np.array([0, 1, 1, 2, 0]), np.array([0, 0, 1, 2, 1])
    found = agreement_by_class(labels, one, other, 3)
    assert found[:2] == pytest.approx([1 / 2, 2 / 3]) and np.isnan(found[2])


def test_what_is_lost_comes_by_the_lead():
    labels = np.array([0, 0, 1, 1])
    teacher = np.array([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
    student = np.array([[0.4, 0.6], [0.2, 0.8], [0.9, 0.1], [0.1, 0.9]])
    assert teacher_only_correct(labels, teacher, student).tolist() == [1, 0]
    assert teacher_only_correct(labels, student, teacher).tolist() == []
