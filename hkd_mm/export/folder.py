# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The folder of an export and its manifest: whole, or without one."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import write_manifest
from hkd_mm.inference.manifest_fields import FILE, Manifest
from hkd_mm.report.model_card import INTENDED_USE, LICENCE
from hkd_mm.training.runtime import make_work_dir

HAIRS = (
    'the network was trained on images whose hairs were removed; here it is '
    'measured, and will be used, on photographs as they are'
)


def described(making, val: dict[str, float | None]) -> dict[str, Any]:
    """Words of a manifest, without those of its task.

    Args:
        making: a :class:`.making.Exporter` that is through.
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


CARD = 'README.md'
NAMES = dict(
    fp32='student.onnx',
    int8='student_int8.onnx',
    fp32_image='student_image.onnx',
    int8_image='student_int8_image.onnx',
    executorch='student.pte',
)
_PART = re.compile(r'\.(\d+)\.part')


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A hidden folder to write to, gone afterwards whatever happens.

    What killed exports have left is removed.

    Args:
        out: folder of the export, made where it is missing.

    Raises:
        UserError: it cannot be made or written to.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f'--out {out} is a file; give a folder')
    new = not out.exists()
    make_work_dir(str(out))
    for left in out.glob('.*.part'):
        found = _PART.fullmatch(left.name)
        if left.is_dir() and found and not _alive(int(found[1])):
            shutil.rmtree(left)
    place = out / f'.{os.getpid()}.part'
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place)
        if new and not any(out.iterdir()):
            out.rmdir()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def publish(place: Path, out: Path, manifest: Manifest, card: str) -> None:
    """Move the files to their folder; the manifest goes first and comes last.

    Args:
        place: where they were written.
        out: the folder.
        manifest: lists them.
        card: text of the model card.
    """
    (place / CARD).write_text(card, encoding='utf-8')
    (out / FILE).unlink(missing_ok=True)
    for name in NAMES.values():
        (out / name).unlink(missing_ok=True)
    for name in [*(spec.path for spec in manifest.files.values()), CARD]:
        with open(place / name, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(place / name, out / name)
    write_manifest(manifest, out)
