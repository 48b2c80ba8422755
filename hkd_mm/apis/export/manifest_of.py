# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What an export says of every net."""

from datetime import datetime, timezone
from typing import Any

from ..run.card_texts import INTENDED_USE, LICENCE

HAIRS = (
    'the net was trained on images whose hairs were removed; here it is '
    'measured, and will be used, on photographs as they are'
)


def described(making, val: dict[str, float | None]) -> dict[str, Any]:
    """Words of a manifest, without those of its task.

    Args:
        making: a :class:`.making.Making` that is through.
        val: figures on validation.
    """
    run = making.run
    tested = {
        name: value
        for name, value in run.notes('test.json').items()
        if isinstance(value, (int, float)) and value == value
    }
    notice = INTENDED_USE
    if run.hairs_removed:
        notice += f' Note: {HAIRS}.'
    return dict(
        name=run.folder.resolve().name,
        architecture=run.architecture,
        parameters=run.parameters,
        classes=tuple(run.classes),
        input=run.spec,
        files=making.files,
        split_hash=run.meta.get('split_hash'),
        source=dict(
            run=run.folder.resolve().name,
            checkpoint=run.meta.get('source'),
            epoch=run.meta.get('epoch'),
            seed=run.meta.get('seed'),
            weights_sha256=run.weights_sha256,
        ),
        metrics=dict(val=val, test=tested or None),
        checks=dict(
            making.checks, images=len(making.val), measured=making.measured
        ),
        calibration_images=making.calibrated,
        licence=LICENCE,
        notice=notice,
        created=datetime.now(timezone.utc).isoformat(timespec='seconds'),
    )
