# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""When a loss of int8 is too much, and when it may be chance."""

import numpy as np
import pytest

from hkd_mm.apis.export.checks import compare_int8, figures, refuse_int8
from hkd_mm.errors import UserError

CLASSES = ('a', 'b')


def answers(labels, wrong):
    """Logits that name the labels but at some places."""
    named = labels.copy()
    named[wrong] = 1 - named[wrong]
    return np.eye(2, dtype=np.float32)[named]


def costs_of(count, wrong_before, wrong_after, limit=1.0):
    labels = np.repeat([0, 1], count)
    fp32, int8 = (answers(labels, w) for w in (wrong_before, wrong_after))
    measured = {
        name: figures(logits, labels, CLASSES)
        for name, logits in (('fp32', fp32), ('int8', int8))
    }
    return compare_int8(fp32, int8, labels, measured, limit)


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
    assert refuse_int8(costs) == ''
    assert refuse_int8(costs_of(100, range(9), [])) == ''  # a gain
