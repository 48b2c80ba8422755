# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Classify or segment files and folders; needs neither torch nor OpenMMLab."""

import errno
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.inference.classifier import SkinClassifier
from hkd_mm.inference.folder import check_places, find_images, prepared
from hkd_mm.inference.manifest_fields import sha256
from hkd_mm.inference.prediction_files import (
    Row,
    WorkFile,
    check_suffix,
    read_table,
    write_table,
)
from hkd_mm.io.locks import only_writer
from hkd_mm.io.progress import Progress, default_workers

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


_FULL = (errno.ENOSPC, errno.EDQUOT)


def predict(
    places: Sequence[str],
    model: str,
    out: str = 'predictions.csv',
    workers: int = 0,
    top: int | None = None,
    batch_size: int = 32,
    **options,
) -> dict[str, Any]:
    """Classify all photographs of files and folders into one table.

    The same call goes on after a kill, and adds to a finished table; for its
    files see docs/inference.md.

    Args:
        places: files and folders.
        model: see :class:`SkinClassifier`; also a name on the Hub.
        out: ``.csv`` or ``.parquet``.
        workers: threads that decode; 0 for one a core.
        top: write the K most probable classes, not a column for each.
        batch_size: photographs that go through the network together.
        options: of the :class:`SkinClassifier`.

    Returns:
        What ``<out>.json`` holds, with ``images``, ``unreadable`` and
        ``passed_by``.

    Raises:
        UserError: anything that the user can mend.
    """
    target = Path(out).expanduser()
    check_suffix(target)
    places = check_places(places)
    if workers < 0 or batch_size < 1:
        raise UserError('--workers: 0 or more; --batch-size: 1 or more')
    classifier = SkinClassifier.from_pretrained(
        model, batch_size=batch_size, **options
    )
    header = header_of(classifier, top)
    # held before anything is looked for, and until all is written
    with (
        _full_disk_message(target),
        only_writer(target),
        open_work(target, header) as work,
    ):
        workers = workers or default_workers()
        passed = _classify(classifier, places, work, workers, top)
        return finish(target, work, header, passed)


@contextmanager
def _full_disk_message(target: Path) -> Iterator[None]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise UserError(
            f'the disk of {target} is full; make room, and the same command '
            'goes on where it was'
        ) from None


def _classify(
    classifier: SkinClassifier,
    places: list[str],
    work: WorkFile,
    workers: int,
    top: int | None,
) -> int:
    """Fill the work file; how many files were passed by for their suffix."""
    passed: Counter[str] = Counter()

    def failed(folder: str, reason: str) -> None:
        if not work.has(folder):
            work.add([dict(image=folder, reason=reason)])

    def pass_by(path: str) -> None:
        passed['files'] += 1

    found = find_images(places, failed, pass_by)
    missing = (path for path in found if not work.has(path))
    ahead = 2 * classifier.batch_size + workers
    read = prepared(missing, classifier.prepare, workers, ahead)
    counted = find_images(places, lambda *unused: None)
    total = sum(not work.has(path) for path in counted)
    begun = time.monotonic()
    with Progress('predicting', total, 'images') as progress:
        while batch := list(islice(read, classifier.batch_size)):
            work.add(_rows(classifier, batch, top))
            progress.advance(len(batch))
    if done := progress.done:
        spent = max(time.monotonic() - begun, 1e-3)
        say(f'{done} images in {spent:.1f} s, {done / spent:.0f} a second')
    return passed['files']


def _rows(
    classifier: SkinClassifier, batch: list[tuple[str, Any]], top: int | None
) -> Iterator[Row]:
    ready = [item for _, item in batch if not isinstance(item, UserError)]
    found = iter(classifier.classify(np.stack(ready)) if ready else ())
    for path, item in batch:
        if isinstance(item, UserError):
            yield dict(image=path, reason=str(item))
        else:
            yield _row(classifier, path, next(found), top)


def _row(
    classifier: SkinClassifier,
    path: str,
    probabilities: np.ndarray,
    top: int | None,
) -> Row:
    answer = classifier.answer(probabilities)
    row = [path, answer.best, round(answer.probability, 6), answer.sure]
    if top is None:
        return row + [round(float(value), 6) for value in probabilities]
    for name, value in answer.classes[1:top]:
        row += [name, round(value, 6)]
    return row
