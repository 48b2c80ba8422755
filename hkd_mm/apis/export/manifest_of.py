# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What an export says of its files."""

from datetime import datetime, timezone

import numpy as np

from hkd_mm.evaluation.classification_scores import classification_scores
from hkd_mm.evaluation.sure_threshold import answered, sure_threshold
from hkd_mm.inference.manifest import Manifest
from hkd_mm.inference.manifest_fields import Threshold

from ..run.card_texts import INTENDED_USE, LICENCE
from .answers import probabilities

HAIRS = (
    'the net was trained on images whose hairs were removed; here it is '
    'measured, and will be used, on photographs as they are'
)


def manifest_of(making) -> Manifest:
    """Describe the files of an export.

    Args:
        making: a :class:`.making.Making` that is through.
    """
    run, labels = making.run, making.val.labels
    scores = probabilities(making.logits['fp32'], making.temperature)
    metrics, _ = classification_scores(scores, labels, run.classes)
    threshold = _threshold(making, scores)
    tested = {
        name: value
        for name, value in run.notes('test.json').items()
        if isinstance(value, (int, float)) and value == value
    }
    notice = INTENDED_USE
    if run.hairs_removed:
        notice += f' Note: {HAIRS}.'
    return Manifest(
        name=run.folder.resolve().name,
        architecture=run.architecture,
        parameters=run.parameters,
        classes=tuple(run.classes),
        input=run.spec,
        temperature=making.temperature,
        threshold=threshold,
        files=making.files,
        split_hash=run.meta.get('split_hash'),
        source=dict(
            run=run.folder.resolve().name,
            checkpoint=run.meta.get('source'),
            epoch=run.meta.get('epoch'),
            seed=run.meta.get('seed'),
        ),
        metrics=dict(val=metrics, test=tested or None),
        checks=dict(
            making.checks, images=len(labels), measured=making.measured
        ),
        calibration_images=making.calibrated,
        licence=LICENCE,
        notice=notice,
        created=datetime.now(timezone.utc).isoformat(timespec='seconds'),
    )


def _threshold(making, scores: np.ndarray) -> Threshold:
    labels, wanted = making.val.labels, making.wishes.sure_accuracy
    found = sure_threshold(scores, labels, wanted)
    if 'int8' in making.logits:
        int8 = probabilities(making.logits['int8'], making.temperature)
        at = answered(int8, labels, found.probability)
        making.checks['int8'].update(
            sure_coverage=at.coverage, sure_accuracy=at.accuracy
        )
    rule = (
        'smallest probability whose answers at or above it reach an '
        f'accuracy of {wanted:g} on validation, by the lower end of a '
        '95 % Wilson interval'
    )
    return Threshold(rule=rule, **found._asdict())
