# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""LIDC-IDRI as slices with consensus masks and a table."""

import argparse
import csv
import io
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hkd_mm.engine.atomic_backend import AtomicBackend
from hkd_mm.errors import UserError
from hkd_mm.parallel import parallel_map
from hkd_mm.unfinished import being_written

from .lidc.outlines import Readings
from .lidc.scans import Scan, find_scans, require_pydicom
from .lidc.sources import DICOM, find_files, find_readings
from .lidc.writing import write_scan

TABLE = 'split_dataset.csv'
COLUMNS = (
    'patient_id',
    'nodule_no',
    'slice_no',
    'original_image',
    'mask_image',
    'malignancy',
    'is_cancer',
    'is_clean',
    'pixel_spacing',
)


def convert_lidc(
    sources: list[str],
    out: str,
    window: tuple[float, float] | None = None,
    clean: int = 0,
    share: float = 0.5,
    workers: int = 0,
) -> dict:
    """Write ``out/Image``, ``out/Mask`` and ``out/split_dataset.csv``.

    A slice is written once, with all nodules in it, if any is agreed on.

    Args:
        sources: folders with DICOM files and XML files, anywhere below.
        out: data root; made when missing.
        window: (centre, width) in Hounsfield units, stretched to 0..65535;
            None stores Hounsfield units + 1024.
        clean: slices without a nodule to keep of each patient, evenly from
            those in which no reader outlined anything.
        share: of the readers who must agree, in (0, 1].
        workers: processes, 0 for all cores.

    Returns:
        ``patients``, ``slices``, ``clean``, ``nodules``, ``unread`` (scans
        without an XML file), ``lost`` (outlines whose slice is missing).

    Raises:
        UserError: nothing to convert, a damaged file, or a bad argument.
    """
    require_pydicom()
    if not 0 < share <= 1 or clean < 0 or (window and not window[1] > 0):
        raise UserError(
            f'consensus {share} must lie in (0, 1], clean {clean} must be '
            f'>= 0 and the width of the window {window} > 0'
        )
    pairs, unread = _pairs(sources, workers)
    with being_written(Path(out), 'convert_lidc.py'):
        jobs = _jobs(pairs, clean)
        done = parallel_map(
            partial(write_scan, Path(out), window, share),
            jobs,
            f'converting {len(jobs)} scans',
            workers,
        )
        rows = [row for some, _, _ in done for row in some]
        if rows:
            _write_table(rows, Path(out) / TABLE)
    if not rows:  # then nothing was written either
        raise UserError(f'{" ".join(sources)}: no nodule that readers share')
    return dict(
        patients=len({row['patient_id'] for row in rows}),
        slices=len(rows),
        clean=sum(row['is_clean'] == 'TRUE' for row in rows),
        nodules=sum(count for _, count, _ in done),
        unread=unread,
        lost=sum(missing for _, _, missing in done),
    )


def fitting_window(window: Sequence[float] | None) -> str:
    """The option of a training that fits what :func:`convert_lidc` stored.

    Args:
        window: as there.
    """
    if window:
        return (
            'data_preprocessor.window=None, the default: they are stretched '
            'over all 16 bits'
        )
    return (
        '--cfg-options data_preprocessor.window=[424,1500], the lung window '
        '-600 / 1500 in what is stored, Hounsfield units + 1024'
    )


def _pairs(
    sources: list[str], workers: int
) -> tuple[list[tuple[Scan, Readings]], int]:
    """Scans with their outlines, and the number of those without any."""
    readings = find_readings(sources)
    scans = find_scans(find_files(sources, DICOM), workers)
    both = [
        (scan, readings[uid]) for uid, scan in scans.items() if uid in readings
    ]
    if not both:
        raise UserError(
            f'{" ".join(sources)}: {len(scans)} CT scans and '
            f'{len(readings)} XML files of nodules, and no two belong '
            'together; give the folders of both'
        )
    both.sort(key=lambda pair: pair[0].slices[0].patient)
    return both, len(scans) - len(both)


def _jobs(pairs: list[tuple[Scan, Readings]], clean: int) -> list[tuple]:
    """Name, scan, outlines and number of clean slices of each scan."""
    seen, jobs = Counter(), []
    totals = Counter(scan.slices[0].patient for scan, _ in pairs)
    for scan, readings in pairs:
        patient = scan.slices[0].patient
        number, seen[patient] = seen[patient], seen[patient] + 1
        share = (clean * (number + 1)) // totals[patient]
        share -= (clean * number) // totals[patient]
        name = patient if totals[patient] == 1 else f'{patient}_scan{number}'
        jobs.append((name, scan, readings, share))
    return jobs


def _write_table(rows: list[dict], path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    AtomicBackend().put_text(text.getvalue(), path)


def run(args: argparse.Namespace) -> None:
    """Do the work of the tool and say what came of it."""
    done = convert_lidc(
        args.sources,
        args.out,
        tuple(args.window) if args.window else None,
        args.clean,
        args.consensus,
        args.workers,
    )
    print(
        f'{done["slices"]} slices of {done["patients"]} patients in '
        f'{args.out}, {done["clean"]} of them clean; {done["nodules"]} '
        'nodules that readers share'
    )
    print(f'train on them with {fitting_window(args.window)}')
    if done['unread']:
        print(f'{done["unread"]} CT scans have no XML file and were left out')
    if done['lost']:
        print(
            f'{done["lost"]} outlines were left out, for their slices are '
            'missing; nodules may be cut or gone'
        )
