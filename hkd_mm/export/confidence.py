# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What confident answers are worth, in all and of each class."""

import numpy as np

from hkd_mm.evaluation.calibration import temperature_note
from hkd_mm.evaluation.selective import (
    answered,
    classes_note,
    confidence_threshold,
    confident_by_class,
    int8_note,
)
from hkd_mm.export.checks import probabilities
from hkd_mm.inference.manifest_fields import Threshold


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
    found = confidence_threshold(scores, val.labels, wanted, val.lesions)
    checks['sure_by_class'] = confident_by_class(
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
