# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""DeiTHardLoss against equation (3), in float64."""

import math

import numpy as np
import pytest
from naive_logits import as_labels, batch, cross_entropy, run
from torch import tensor

from hkd_mm.models.losses.label_losses import DeiTHardLoss, HardLabelLoss


@pytest.mark.parametrize('c', [2, 6, 50])
def test_equation_three_with_the_hard_label(c):
    s, t, y = batch(n=9, c=c)
    expected = np.mean(
        [
            cross_entropy(a, k) / 2 + cross_entropy(a, list(b).index(max(b))) / 2
            for a, b, k in zip(s, t, y, strict=True)
        ]
    )
    found = run(DeiTHardLoss(loss_weight=0.5), s, t)
    found += HardLabelLoss(loss_weight=0.5)(tensor(s), as_labels(y)).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_case_by_hand():
    # the teacher decides for class 1, to which the student gives 1/4
    found = run(DeiTHardLoss(), [[math.log(3), 0]], [[-1, 0.5]])
    assert found == pytest.approx(math.log(4), rel=1e-5)


def test_only_the_teachers_decision_counts():
    s, t, _ = batch()
    assert run(DeiTHardLoss(), s, t) == run(DeiTHardLoss(), s, 50 * t + 1)
    assert run(DeiTHardLoss(), s, t) != run(DeiTHardLoss(), s, -t)
