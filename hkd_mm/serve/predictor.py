# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Classify or segment files and folders; needs neither torch nor OpenMMLab."""

import errno
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.inference import prediction_files
from hkd_mm.inference.classifier import SkinClassifier
from hkd_mm.inference.folder import distinct_paths, find_images, prepared
from hkd_mm.inference.pretrained import introduction, pretrained_folder
from hkd_mm.io.files import read_record, sha256
from hkd_mm.io.locks import only_writer
from hkd_mm.io.progress import Progress, default_workers

_FORMAT = 'hkd_mm predictions 3'
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_PLACE = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


def predict(
    paths: Sequence[str],
    model: str | None = None,
    out: str = 'predictions.csv',
    workers: int = 0,
    top: int | None = None,
    batch_size: int = 32,
    **options,
) -> dict[str, Any]:
    """Classify all images of files and folders into one table.

    The same call goes on after a kill, and adds to a finished table; see
    docs/inference.md, and for the arguments ``tools/predict.py``. Without ``model``
    the student that comes with hkd_mm answers, and a line says which. Returned is
    what ``<out>.json`` holds.
    """
    target = Path(out).expanduser()
    prediction_files.check_suffix(target)
    paths = distinct_paths(paths)
    if not 0 <= workers <= 1024:
        raise UserError(f'--workers {workers} must lie between 0, all cores, and 1024')
    named = model is not None
    if not named:
        model = pretrained_folder(remedy='give --model, a folder of tools/export.py')
    classifier = SkinClassifier.from_pretrained(model, batch_size=batch_size, **options)
    if not named:
        _print(introduction(classifier.student.manifest))
    header = _header(classifier, top)
    # held before anything is searched, and until all is written
    with _disk_messages(target), only_writer(target), open_work(target, header) as work:
        workers = workers or default_workers()
        skipped = _classify(classifier, paths, work, workers, top)
        return _finish(target, work, header, skipped)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _header(classifier: SkinClassifier, top: int | None) -> dict[str, Any]:
    """What the rows depend on."""
    classes = classifier.classes
    if top is not None and not 1 <= top <= len(classes):
        raise UserError(f'--top {top}: the model has {len(classes)} classes')
    student = classifier.student
    manifest = student.manifest
    columns = ['image', 'best', 'probability', 'confident']
    if top is None:
        columns += [f'probability_{name}' for name in classes]
    for rank in range(2, (top or 1) + 1):
        columns += [f'best_{rank}', f'probability_{rank}']
    return dict(
        format=_FORMAT,
        model=sha256(student.weights),
        model_name=manifest.name if manifest else student.weights.name,
        temperature=student.temperature,
        threshold=manifest.threshold.probability if manifest else None,
        precision=classifier.precision,
        columns=columns,
    )


@contextmanager
def _disk_messages(target: Path) -> Iterator[None]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in _NO_PLACE:
            raise UserError(
                f'--out {target} cannot be written ({error.strerror}); give another one'
            ) from None
        if error.errno not in _FULL:
            raise
        raise UserError(
            f'the disk of {target} is full; make room, and the same command '
            'goes on where it was'
        ) from None


def open_work(out: Path, header: dict[str, Any]) -> prediction_files.WorkFile:
    """Begin, go on where a killed call stopped, or add to a table."""
    work, made_by = Path(f'{out}.part'), Path(f'{out}.json')
    if work.is_file() or not out.exists():
        opened = prediction_files.WorkFile(work, header)
        if opened.images or opened.unreadable:
            _print(f'going on: {opened.images} images were done before')
        return opened
    found = read_record(made_by)
    if not found:
        raise UserError(
            f'{out} exists and {made_by} does not say what made it; remove '
            'it, or give another --out'
        )
    prediction_files.check_header(out, found, header)
    if found.get('table') != sha256(out):
        raise UserError(
            f'{out} is not as it was written, but cut off or edited (its hash is '
            f'another than in {made_by}); remove it, or give another --out'
        )
    opened = prediction_files.WorkFile(work, header, prediction_files.read_table(out))
    _print(f'{opened.images} images are in {out} already')
    return opened


def _classify(
    classifier: SkinClassifier,
    paths: list[str],
    work: prediction_files.WorkFile,
    workers: int,
    top: int | None,
) -> int:
    """Fill the work file; how many files were skipped for their suffix."""
    skipped: list[None] = []

    def failed(folder: str, reason: str) -> None:
        if not work.has(folder):
            work.add([dict(image=folder, reason=reason)])

    counted = find_images(paths, lambda *unused: None)
    total = sum(not work.has(path) for path in counted)
    found = find_images(paths, failed, lambda path: skipped.append(None))
    missing = (path for path in found if not work.has(path))
    ahead = 2 * classifier.batch_size + workers
    read = prepared(missing, classifier.prepare, workers, ahead)
    begun = time.monotonic()
    with Progress('predicting', total, 'images') as progress:
        while batch := list(islice(read, classifier.batch_size)):
            work.add(_rows(classifier, batch, top))
            progress.advance(len(batch))
    if done := progress.done:
        spent = max(time.monotonic() - begun, 1e-3)
        _print(f'{done} images in {spent:.1f} s, {done / spent:.0f} a second')
    return len(skipped)


def _rows(
    classifier: SkinClassifier, batch: list[tuple[str, Any]], top: int | None
) -> Iterator[prediction_files.Row]:
    ready = [item for _, item in batch if not isinstance(item, UserError)]
    found = iter(classifier.classify(np.stack(ready)) if ready else ())
    for path, item in batch:
        if isinstance(item, UserError):
            yield dict(image=path, reason=str(item))
            continue
        probabilities = next(found)
        answer = classifier.answer(probabilities)
        row = [path, answer.best, answer.probability, answer.confident]
        if top is None:
            row += probabilities.tolist()
        for name, value in answer.classes[1 : top or 1]:
            row += [name, value]
        yield [round(v, 6) if isinstance(v, float) else v for v in row]


def _finish(
    out: Path, work: prediction_files.WorkFile, header: dict[str, Any], skipped: int
) -> dict[str, Any]:
    """Write the table and what goes with it, then remove the work file."""
    skipped_files = (
        f'{skipped} files whose suffix is that of no image, or that have '
        'none; to read one, name it'
    )
    if not work.images and not work.unreadable:
        os.unlink(work.path)
        raise UserError(
            'there is no image in what was named'
            + (f', but {skipped_files}' if skipped else '')
        )
    prediction_files.write_table(
        out, header['columns'], (row for row in work.rows() if isinstance(row, list))
    )
    unreadable = Path(f'{out}.unreadable.csv')
    unreadable.unlink(missing_ok=True)
    if work.unreadable:
        rows = (row for row in work.rows() if isinstance(row, dict))
        columns = ['image', 'reason']
        prediction_files.write_table(
            unreadable, columns, ([row[k] for k in columns] for row in rows)
        )
    record = dict(header, images=work.images, unreadable=work.unreadable)
    record.update(skipped=skipped, table=sha256(out))
    # the last to be removed is what a kill in between goes on from
    Path(f'{out}.json').write_text(json.dumps(record, indent=1) + '\n')
    os.unlink(work.path)
    line = f'Done: {work.images} images in {out}'
    if work.unreadable:
        line += f'; {work.unreadable} could not be read, see {unreadable}'
    if skipped:
        line += f'; skipped: {skipped_files}'
    _print(line)
    return record
