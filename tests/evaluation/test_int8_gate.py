# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""When a loss of int8 is too much, and when it may be chance."""

import numpy as np
import pytest

from hkd_mm.errors import UserError
from hkd_mm.evaluation.int8_gate import compare_int8, refuse_int8
from hkd_mm.export.checks import figures

CLASSES = ('a', 'b')


def answers(labels, wrong):
    """Logits that name the labels but at some places."""
    named = labels.copy()
    named[wrong] = 1 - named[wrong]
    return np.eye(2, dtype=np.float32)[named]


def costs_of(count, wrong_before, wrong_after, limit=1.0, recall_limit=5.0):
    labels = np.repeat([0, 1], count)
    fp32, int8 = (answers(labels, w) for w in (wrong_before, wrong_after))
    measured = {
        name: figures(logits, labels, CLASSES)
        for name, logits in (('fp32', fp32), ('int8', int8))
    }
    return compare_int8(fp32, int8, labels, measured, limit, recall_limit)


def test_the_standard_error_is_that_of_the_paired_difference():
    # class a of 100: 6 turned wrong, 2 turned right; class b: nothing
    # variance of the 100 differences (6 + 2 - 4^2 / 100) / 99 = 0.079192
    # sqrt(0.079192 / 100) / 2 classes = 0.014070
    costs = costs_of(100, [0, 1], range(2, 8))
    assert costs['points_lost'] == pytest.approx(2.0)
    assert costs['standard_error'] == pytest.approx(1.4070, abs=1e-3)


def test_a_loss_that_chance_explains_is_told_and_passes():
    said = refuse_int8(costs_of(100, [0, 1], range(2, 8)))
    assert 'int8 loses 2.00 points' in said and 'may be chance' in said


def test_a_loss_that_chance_does_not_explain_is_refused():
    # ten times the images and the changes: error 0.44
    with pytest.raises(UserError, match='loses 2.00 points.*--int8-limit 1'):
        refuse_int8(costs_of(1000, range(20), range(20, 80)))


def test_a_loss_within_the_limit_is_fine():
    costs = costs_of(1000, range(20), range(20, 80), limit=2.5)
    assert refuse_int8(costs) is None
    assert refuse_int8(costs_of(100, range(9), [])) is None  # a gain


def test_strict_refuses_what_may_be_chance() -> None:
    costs = costs_of(100, [0, 1], range(2, 8))
    with pytest.raises(UserError, match='loses 2.00 points.*may be chance'):
        refuse_int8(costs, strict=True)
    assert refuse_int8(costs_of(100, [], []), strict=True) is None


SEVEN = ('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc')
COUNTS = (33, 51, 110, 12, 112, 670, 14)


def seven(before, after, **words):
    """Costs where so many of the first images of a class are wrong."""
    labels = np.repeat(range(7), COUNTS)
    starts = np.cumsum((0, *COUNTS))

    def logits(wrong):
        named = labels.copy()
        for place, number in wrong.items():
            own = slice(starts[place], starts[place] + number)
            named[own] = (named[own] + 1) % 7
        return np.eye(7, dtype=np.float32)[named]

    fp32, int8 = logits(before), logits(after)
    measured = dict(
        fp32=figures(fp32, labels, SEVEN), int8=figures(int8, labels, SEVEN)
    )
    words = dict(limit=1.0, recall_limit=5.0) | words
    return compare_int8(fp32, int8, labels, measured, **words)


def test_a_class_that_is_lost_is_refused_by_name() -> None:
    """Though balanced accuracy goes up: small classes outweigh melanoma."""
    costs = seven({0: 15, 3: 8, 6: 8, 4: 60, 5: 40}, {0: 4, 3: 2, 6: 1, 4: 112, 5: 40})
    assert costs['points_lost'] < 0
    mel = costs['recall']['mel']
    assert mel['turned_wrong'] == 52 and mel['turned_right'] == 0
    assert mel['points_lost'] == pytest.approx(100 * 52 / 112)
    told = 'loses 46.43 points of the recall of mel .*--int8-recall-limit 5'
    with pytest.raises(UserError, match=told) as error:
        refuse_int8(costs)
    assert '\n' not in str(error.value)
    assert refuse_int8(dict(costs, recall_limit=50.0)) is None


def test_one_image_of_a_small_class_may_be_chance() -> None:
    costs = seven({}, {3: 1}, limit=2.0)
    assert costs['recall']['df']['p'] == 1.0  # 1/2, of seven classes
    said = refuse_int8(costs)
    assert 'recall of df' in said and 'of 12 images 1 turned wrong' in said
    assert 'may be chance' in said


def test_classes_are_tested_together() -> None:
    # five of five turn wrong: 1/32 alone, 7/32 as the first of seven
    costs = seven({}, {6: 5}, limit=100.0)
    assert costs['recall']['vasc']['p'] == pytest.approx(7 / 32)
    assert 'vasc' in refuse_int8(costs)
    # eight of eight: 7/256
    with pytest.raises(UserError, match='recall of vasc'):
        refuse_int8(seven({}, {6: 8}, limit=100.0))


def test_a_class_without_images_is_left_out() -> None:
    labels = np.array([0, 0, 1])
    logits = np.eye(3, dtype=np.float32)[labels]
    measured = dict.fromkeys(('fp32', 'int8'), figures(logits, labels, ('a', 'b', 'c')))
    found = compare_int8(logits, logits, labels, measured, 1.0, 5.0)
    assert list(found['recall']) == ['a', 'b'] and refuse_int8(found) is None
