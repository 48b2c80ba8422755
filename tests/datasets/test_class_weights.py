# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Class weights against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from hkd_mm.datasets.class_weights import balanced_weights, class_prior
from hkd_mm.errors import UserError

pytestmark = pytest.mark.usefixtures('in_tmp')

COUNTS = [261, 410, 879, 91, 889, 5363, 113]


def test_balanced_is_scikit_learns():
    labels = np.repeat(np.arange(7), COUNTS)
    expected = compute_class_weight('balanced', classes=np.arange(7), y=labels)
    np.testing.assert_allclose(balanced_weights(COUNTS), expected, atol=1e-6)


def test_sqrt_balanced_by_hand():
    # 1/sqrt: 1, 1/2; samples 1 + 4, weighted 1 + 2 -> factor 5/3
    assert balanced_weights([1, 4], 'sqrt_balanced') == pytest.approx(
        [5 / 3, 5 / 6], abs=1e-6
    )


@pytest.mark.parametrize('word', ['balanced', 'sqrt_balanced'])
def test_the_mean_over_the_samples_is_one(word):
    weights = np.array(balanced_weights(COUNTS, word))
    assert np.dot(weights, COUNTS) / sum(COUNTS) == pytest.approx(1, abs=1e-5)
    assert (np.argsort(weights) == np.argsort(COUNTS)[::-1]).all()


def test_mistakes_are_named():
    with pytest.raises(UserError, match='no image of class df'):
        balanced_weights([3, 0], classes=('nv', 'df'))
    with pytest.raises(UserError, match='class_weight="balance"'):
        balanced_weights([3, 1], 'balance')


def test_the_prior_is_the_share_of_each_class():
    assert class_prior([6, 3, 1]) == [0.6, 0.3, 0.1]
    assert class_prior([99, 0]) == [0.99, 0.01]
    assert sum(class_prior(COUNTS)) == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match='class_prior="test" must be train'):
        class_prior([1, 1], 'test')
