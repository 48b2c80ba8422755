# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The files of ``tools/predict.py``: made, taken up again, finished."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.inference.classifier import SkinClassifier
from hkd_mm.inference.manifest_fields import sha256
from hkd_mm.inference.tables import read_table, write_table
from hkd_mm.inference.work_file import WorkFile

_FORMAT = 'hkd_mm predictions 1'


def say(line: str) -> None:
    """Print one line on stderr."""
    print(line, file=sys.stderr, flush=True)


def header_of(classifier: SkinClassifier, top: int | None) -> dict[str, Any]:
    """What the rows depend on.

    Args:
        classifier: that makes them.
        top: how many classes a row names; None for a column for each.

    Raises:
        UserError: there are not so many classes.
    """
    classes = classifier.classes
    if top is not None and not 1 <= top <= len(classes):
        raise UserError(f'--top {top}: the model has {len(classes)} classes')
    student = classifier.student
    manifest = student.manifest
    columns = ['image', 'best', 'probability', 'sure']
    if top is None:
        columns += [f'probability_{name}' for name in classes]
    for place in range(2, (top or 1) + 1):
        columns += [f'best_{place}', f'probability_{place}']
    return dict(
        format=_FORMAT,
        model=sha256(student.weights),
        model_name=manifest.name if manifest else student.weights.name,
        temperature=student.temperature,
        threshold=manifest.threshold.probability if manifest else None,
        precision=classifier.precision,
        columns=columns,
    )


def open_work(out: Path, header: dict[str, Any]) -> WorkFile:
    """Begin, go on where a killed call stopped, or add to a table.

    Args:
        out: the finished table, there or not.
        header: see :func:`header_of`.

    Raises:
        UserError: what is there was made by something else.
    """
    work, made_by = Path(f'{out}.part'), Path(f'{out}.json')
    if work.is_file() or not out.exists():
        opened = WorkFile(work, header)
        if opened.images or opened.unreadable:
            say(f'going on: {opened.images} images were done before')
        return opened
    try:
        found = json.loads(made_by.read_bytes())
        found = {key: found.get(key) for key in header}
    except (OSError, ValueError, AttributeError):
        raise UserError(
            f'{out} exists and {made_by} does not say what made it; remove '
            'it, or give another --out'
        ) from None
    wrong = [key for key in header if found[key] != header[key]]
    if wrong:
        raise UserError(
            f'{out} is of another model or other options '
            f'({", ".join(wrong)}); remove it, or give another --out'
        )
    opened = WorkFile(work, header, read_table(out))
    say(f'{opened.images} images are in {out} already')
    return opened


def finish(
    out: Path, work: WorkFile, header: dict[str, Any], passed: int
) -> dict[str, Any]:
    """Write the table and what goes with it, then remove the work file.

    Args:
        out: the table.
        work: with all of its rows.
        header: see :func:`header_of`.
        passed: files that were passed by for their suffix.

    Returns:
        What ``<out>.json`` holds.

    Raises:
        UserError: there is no row.
    """
    if not work.images and not work.unreadable:
        os.unlink(work.path)
        raise UserError(
            'there is no image in what was named'
            + (f', but {_passed_by(passed)}' if passed else '')
        )
    facts = dict(
        header,
        images=work.images,
        unreadable=work.unreadable,
        passed_by=passed,
    )
    good = (row for row in work.rows() if isinstance(row, list))
    write_table(out, header['columns'], good)
    _list_unreadable(Path(f'{out}.unreadable.csv'), work)
    # the last to be removed is what a kill in between goes on from
    Path(f'{out}.json').write_text(json.dumps(facts, indent=1) + '\n')
    os.unlink(work.path)
    told = f'Done: {work.images} images in {out}'
    if work.unreadable:
        told += (
            f'; {work.unreadable} could not be read, see {out}.unreadable.csv'
        )
    if passed:
        told += f'; passed by: {_passed_by(passed)}'
    say(told)
    return facts


def _passed_by(count: int) -> str:
    return (
        f'{count} files whose suffix is that of no image, or that have none; '
        'to read one, name it'
    )


def _list_unreadable(path: Path, work: WorkFile) -> None:
    if not work.unreadable:
        path.unlink(missing_ok=True)
        return
    bad = (
        [row['image'], row['reason']]
        for row in work.rows()
        if isinstance(row, dict)
    )
    write_table(path, ['image', 'reason'], bad)
