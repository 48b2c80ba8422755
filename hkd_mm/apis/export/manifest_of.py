# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What an export says of its files."""

from datetime import datetime, timezone

from hkd_mm.evaluation.classification_scores import classification_scores
from hkd_mm.inference.manifest import Manifest

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
        threshold=making.threshold,
        files=making.files,
        split_hash=run.meta.get('split_hash'),
        source=dict(
            run=run.folder.resolve().name,
            checkpoint=run.meta.get('source'),
            epoch=run.meta.get('epoch'),
            seed=run.meta.get('seed'),
            weights_sha256=run.weights_sha256,
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
