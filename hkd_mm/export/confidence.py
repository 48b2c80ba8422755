# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What confident answers are worth, in all and of each class."""

from collections.abc import Sequence

import numpy as np

from hkd_mm.evaluation.confidence import BOUNDS, answered, sure_threshold
from hkd_mm.export.checks import probabilities
from hkd_mm.inference.manifest import Threshold

_NEAR = 1.2  # of a bound of the temperature


def fit_threshold(exporter) -> Threshold:
    """Find the probability above which answers are confident.

    Evidence against it is added to ``exporter.checks``:
    ``confident_by_class``, ``confident_lesions``, ``temperature_note``, and
    of int8 ``confident_coverage``, ``confident_accuracy`` and
    ``confident_note``. Notes are reported as warnings; None for no note.
    """
    labels, lesions = exporter.val.labels, exporter.val.lesions
    checks, temperature = exporter.checks, exporter.temperature
    wanted = exporter.options.confident_accuracy
    scores = probabilities(exporter.logits['fp32'], temperature)
    found = sure_threshold(scores, labels, wanted, lesions)
    by_class = confident_by_class(
        scores, labels, exporter.run.classes, found.probability
    )
    notes = [
        temperature_note(temperature, scores, labels),
        classes_note(by_class),
    ]
    checks.update(
        confident_by_class=by_class,
        confident_lesions=None if lesions is None else len(set(lesions)),
        temperature_note=notes[0],
    )
    if 'int8' in exporter.logits:
        int8 = probabilities(exporter.logits['int8'], temperature)
        at = answered(int8, labels, found.probability, lesions)
        notes.append(int8_note(at.accuracy, at.coverage, wanted))
        checks['int8'].update(
            confident_coverage=at.coverage,
            confident_accuracy=at.accuracy,
            confident_note=notes[-1],
        )
    for note in filter(None, notes):
        exporter.report(f'warning: {note}')
    return Threshold(rule=_rule(wanted, lesions), **found._asdict())


def _rule(wanted: float, lesions: np.ndarray | None) -> str:
    counted = (
        'a photograph counts for itself, no lesion is known'
        if lesions is None
        else 'the photographs of a lesion count as one answer'
    )
    return (
        'smallest probability whose answers at or above it reach an '
        f'accuracy of {wanted:g} on validation, over all classes together, '
        f'by the lower end of a 95 % Wilson interval; {counted}'
    )


def confident_by_class(
    scores: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    probability: float | None,
) -> dict[str, dict[str, int]]:
    """Count confident answers by class, from probabilities (N, C).

    Returns:
        Name -> ``images`` of the class, how many of them are
        ``confident_correct`` and ``confident_wrong``, and
        ``confident_predicted``, the confident answers that name it, whatever
        the images show.
    """
    predicted = scores.argmax(1)
    confident = scores.max(1) >= (
        np.inf if probability is None else probability
    )
    counts = {}
    for label, name in enumerate(classes):
        own, named = labels == label, predicted == label
        counts[name] = dict(
            images=int(own.sum()),
            confident_correct=int((own & named & confident).sum()),
            confident_wrong=int((own & ~named & confident).sum()),
            confident_predicted=int((named & confident).sum()),
        )
    return counts


def classes_note(by_class: dict[str, dict[str, int]]) -> str | None:
    """Name the classes whose confident answers are mostly wrong, if any."""
    mostly_wrong = [
        f'{name} ({found["confident_wrong"]} wrong, '
        f'{found["confident_correct"]} right)'
        for name, found in by_class.items()
        if found['confident_wrong'] > found['confident_correct']
    ]
    if not mostly_wrong:
        return None
    return (
        'a confident answer to an image of these classes is wrong more often '
        f'than right on validation: {", ".join(mostly_wrong)}'
    )


def temperature_note(
    temperature: float, scores: np.ndarray, labels: np.ndarray
) -> str | None:
    """Warn of probabilities (N, C) that are not calibrated, or return None."""
    least, most = BOUNDS
    if (scores.argmax(1) == labels).all():
        return (
            f'no validation image is answered wrongly, so temperature '
            f'{temperature:.3g} and threshold are guesses: nothing shows how '
            'confident wrong answers are'
        )
    if least * _NEAR < temperature < most / _NEAR:
        return None
    return (
        f'temperature {temperature:.3g} is near an end of what is tried '
        f'({least:g} to {most:g}): the probabilities are not calibrated'
    )


def int8_note(accuracy: float, coverage: float, wanted: float) -> str | None:
    """Warn of a threshold that is too low for int8, or return None.

    Accuracy and coverage are those of its confident answers.
    """
    if not coverage or accuracy >= wanted:
        return None
    return (
        'int8 uses the temperature and threshold of float32, and its '
        f'confident answers are right in {accuracy:.1%} on validation, below '
        f'--confident-accuracy {wanted:g}'
    )
