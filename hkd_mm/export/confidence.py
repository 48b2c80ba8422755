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
from hkd_mm.inference.manifest import Threshold


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
    found = confidence_threshold(scores, labels, wanted, lesions)
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
