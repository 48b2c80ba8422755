# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Is one method better than another, seeds and images both being chance?

A figure over S trained networks and N images varies with both: another seed is another
network, another sample of lesions another test split. This is the multi-reader,
multi-case problem of radiology (Obuchowski and Rockette, Commun. Stat. Simul. Comput.
24(2), 1995; Hillis, Stat. Med. 26, 2007) with seeds as readers and lesions as cases.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hkd_mm.errors import UserError

ALPHA = 0.05  # a difference counts where p, after Holm, is below

# labels, predictions and weights (how often each image counts), each (N,)
Score = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


class Difference(NamedTuple):
    """Method minus baseline, with a 95 % interval."""

    mean: float  # over the seeds
    sd: float  # over the seeds, sample standard deviation; NaN with one seed
    low: float
    high: float
    p: float  # two-sided, of the hypothesis that there is none
    by_seed: tuple[float, ...]

    @property
    def seeds(self) -> int:
        return len(self.by_seed)


def balanced_accuracy(
    labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray
) -> float:
    """Mean recall of the classes that occur."""
    size = int(max(labels.max(), predictions.max())) + 1
    total = np.bincount(labels, weights, size)
    right = np.bincount(labels, weights * (labels == predictions), size)
    return float((right[total > 0] / total[total > 0]).mean())


def accuracy(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    """Share of right predictions."""
    return float(np.average(labels == predictions, weights=weights))


def mean_value(labels: np.ndarray, values: np.ndarray, weights: np.ndarray) -> float:
    """Mean of a float of each image, such as Dice, in place of predictions."""
    return float(np.average(values, weights=weights))


def scores_by_seed(
    labels: np.ndarray, chosen: np.ndarray, score: Score = balanced_accuracy
) -> np.ndarray:
    """Score of each seed, (S,); ``chosen`` has a row a seed, (S, N)."""
    ones = np.ones(len(labels))
    return np.array([score(labels, row, ones) for row in chosen])


def paired_difference(
    labels: np.ndarray,
    method: np.ndarray,
    baseline: np.ndarray,
    groups: Sequence,
    score: Score = balanced_accuracy,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Compare two methods, paired over seeds and images.

    The variance of the mean difference is the sum of two parts: that of the seeds,
    ``sd**2 / S``, and that of the images, from bootstrap samples of whole lesions which
    both methods and all seeds share. Interval and p come from a t distribution with
    Satterthwaite's degrees of freedom. What seeds and images do together is in both
    parts, so the test errs on the careful side; with one seed it is of the images only.

    Args:
        labels: (N,) int.
        method: (S, N) int, predicted classes, a row a seed; ``baseline`` in its order.
        groups: (N,) lesion of each image; of a single one a ``UserError``.
    """
    from scipy.stats import t as student_t

    method, baseline = np.atleast_2d(method), np.atleast_2d(baseline)
    assert method.shape == baseline.shape == (len(method), len(labels))
    pairs = [*zip(method, baseline)]
    found = scores_by_seed(labels, method, score)
    found -= scores_by_seed(labels, baseline, score)
    count, each = len(found), tuple(found.tolist())
    mean = float(found.mean())
    sd = float(found.std(ddof=1)) if count > 1 else float('nan')
    of_seeds = sd**2 / count if count > 1 else 0.0
    lesions = len(set(groups))
    if lesions < 2:
        raise UserError(
            f'all {len(labels)} test images are of one lesion or patient, so '
            'that nothing can be said of others; test on more'
        )
    means = [
        np.mean([score(labels, a, w) - score(labels, b, w) for a, b in pairs])
        for w in _samples(groups, resamples, seed)
    ]
    of_images = float(np.var(means, ddof=1))
    variance = of_seeds + of_images
    if variance == 0:  # the same predictions, or the same gain everywhere
        return Difference(mean, sd, mean, mean, float(mean == 0), each)
    parts = of_images**2 / (lesions - 1)
    if count > 1:
        parts += of_seeds**2 / (count - 1)
    freedom = variance**2 / parts
    error = variance**0.5
    reach = float(student_t.ppf(0.975, freedom)) * error
    p = float(2 * student_t.sf(abs(mean) / error, freedom))
    return Difference(mean, sd, mean - reach, mean + reach, p, each)


def bootstrap_interval(
    labels: np.ndarray,
    chosen: np.ndarray,
    groups: Sequence,
    score: Score = balanced_accuracy,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of the mean score over other test splits.

    Bootstrap samples are of whole lesions, the networks stay; those for which there is
    no score do not count, and without any the ends are NaN. Arguments as of
    :func:`paired_difference`.
    """
    chosen = np.atleast_2d(chosen)
    means = [
        np.mean([score(labels, row, weights) for row in chosen])
        for weights in _samples(groups, resamples, seed)
    ]
    if np.isnan(means).all():
        return float('nan'), float('nan')
    low, high = np.nanpercentile(means, (2.5, 97.5))
    return float(low), float(high)


def bootstrap_mean(
    values: np.ndarray, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the mean of independent values, (N,)."""
    random = np.random.default_rng(seed)
    means = random.choice(values, (resamples, len(values))).mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values after Holm (Scand. J. Stat. 6, 1979), in the same order."""
    order = np.argsort(p_values)
    ranked = np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty_like(ranked)
    adjusted[order] = np.maximum.accumulate(ranked).clip(max=1)
    return adjusted.tolist()


def _samples(groups: Sequence, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image counts, in samples of whole lesions."""
    lesions, of_image = np.unique(np.asarray(groups), return_inverse=True)
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = random.integers(len(lesions), size=len(lesions))
        yield np.bincount(drawn, minlength=len(lesions))[of_image]
