# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What confident answers are worth, in all and of each class."""

from collections.abc import Sequence

import numpy as np

from hkd_mm.evaluation.confidence import BOUNDS, answered, sure_threshold
from hkd_mm.export.checks import probabilities
from hkd_mm.inference.manifest_fields import Threshold

_NEAR = 1.2  # of a bound of the temperature


def fit_threshold(making) -> Threshold:
    """From which probability on answers are sure.

    What speaks against it is added to ``making.checks``: ``sure_by_class``,
    ``sure_lesions``, ``temperature_note``, and of int8 ``sure_coverage``,
    ``sure_accuracy`` and ``sure_note``; notes are None where there is
    nothing to tell, and are told as warnings otherwise.

    Args:
        making: a :class:`.classifier_making.ClassifierMaking` whose networks
            are measured.
    """
    val, checks = making.val, making.checks
    wanted = making.wishes.sure_accuracy
    scores = probabilities(making.logits['fp32'], making.temperature)
    found = sure_threshold(scores, val.labels, wanted, val.lesions)
    checks['sure_by_class'] = sure_by_class(
        scores, val.labels, making.run.classes, found.probability
    )
    lesions = val.lesions
    checks['sure_lesions'] = None if lesions is None else len(set(lesions))
    checks['temperature_note'] = temperature_note(
        making.temperature, scores, val.labels
    )
    notes = [
        checks['temperature_note'],
        classes_note(checks['sure_by_class']),
    ]
    if 'int8' in making.logits:
        int8 = probabilities(making.logits['int8'], making.temperature)
        at = answered(int8, val.labels, found.probability, lesions)
        note = int8_note(at.accuracy, at.coverage, wanted)
        checks['int8'].update(
            sure_coverage=at.coverage,
            sure_accuracy=at.accuracy,
            sure_note=note,
        )
        notes.append(note)
    for note in filter(None, notes):
        making.say(f'warning: {note}')
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


def sure_by_class(
    scores: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    probability: float | None,
) -> dict[str, dict[str, int]]:
    """Count sure answers by class.

    Args:
        scores: (N, C) probabilities.
        labels: (N,) int.
        classes: C names.
        probability: from which on an answer is sure; None for never.

    Returns:
        Name -> ``images`` of the class, how many of them are
        ``surely_right`` and ``surely_wrong``, and ``said_surely``, the sure
        answers that name it, whatever they show.
    """
    named = scores.argmax(1)
    sure = np.zeros(len(labels), bool)
    if probability is not None:
        sure = scores.max(1) >= probability
    right = named == labels
    found = {}
    for place, name in enumerate(classes):
        own = labels == place
        found[name] = dict(
            images=int(own.sum()),
            surely_right=int((own & sure & right).sum()),
            surely_wrong=int((own & sure & ~right).sum()),
            said_surely=int((sure & (named == place)).sum()),
        )
    return found


def classes_note(by_class: dict[str, dict[str, int]]) -> str | None:
    """Name the classes whose sure answers are wrong more often than right.

    Args:
        by_class: of :func:`sure_by_class`.
    """
    told = [
        f'{name} ({found["surely_wrong"]} wrong, {found["surely_right"]} '
        'right)'
        for name, found in by_class.items()
        if found['surely_wrong'] > found['surely_right']
    ]
    if not told:
        return None
    return (
        'a sure answer to an image of these classes is wrong more often than '
        f'right on validation: {", ".join(told)}'
    )


def temperature_note(
    temperature: float, scores: np.ndarray, labels: np.ndarray
) -> str | None:
    """Why the probabilities may not be taken at their word.

    Args:
        temperature: that was fitted.
        scores: (N, C) of the images that it was fitted on.
        labels: (N,) int.
    """
    least, most = BOUNDS
    if (scores.argmax(1) == labels).all():
        return (
            f'no validation image is answered wrongly, so temperature '
            f'{temperature:.3g} and threshold are guesses: nothing tells how '
            'sure wrong answers are'
        )
    if least * _NEAR < temperature < most / _NEAR:
        return None
    return (
        f'temperature {temperature:.3g} is near an end of what is tried '
        f'({least:g} to {most:g}): the probabilities are not calibrated'
    )


def int8_note(accuracy: float, coverage: float, wanted: float) -> str | None:
    """Whether float32's threshold is too low for int8.

    Args:
        accuracy: of the sure answers of int8.
        coverage: share of images that are answered; 0 tells nothing.
        wanted: ``--sure-accuracy``.
    """
    if not coverage or accuracy >= wanted:
        return None
    return (
        'int8 uses the temperature and threshold of float32, and its sure '
        f'answers are right in {accuracy:.1%} on validation, below '
        f'--sure-accuracy {wanted:g}'
    )
