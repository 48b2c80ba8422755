# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``tools/predict.py`` does. Needs neither torch nor OpenMMLab."""

import errno
import time
from argparse import Namespace
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
from hkd_mm.inference.out_lock import only_writer
from hkd_mm.inference.tables import check_suffix
from hkd_mm.inference.work_file import Row, WorkFile
from hkd_mm.parallel import default_workers
from hkd_mm.progress import Progress

from .predict_files import finish, header_of, open_work, say

_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(args: Namespace) -> None:
    """Predict as the command line says."""
    predict(
        args.places,
        args.model,
        args.out,
        precision=args.precision,
        backend=args.backend,
        device=args.device,
        batch_size=args.batch_size,
        workers=args.workers,
        top=args.top,
        max_pixels=args.max_pixels,
    )


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
        batch_size: photographs that go through the net together.
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
        _full_disk_told(target),
        only_writer(target),
        open_work(target, header) as work,
    ):
        workers = workers or default_workers()
        passed = _classify(classifier, places, work, workers, top)
        return finish(target, work, header, passed)


@contextmanager
def _full_disk_told(target: Path) -> Iterator[None]:
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
