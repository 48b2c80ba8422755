# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Convert LIDC-IDRI to slices with consensus masks and a table."""

import filecmp
import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from hkd_mm.data_tools import lidc
from hkd_mm.data_tools.source import check_out, check_source
from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import mark_incomplete
from hkd_mm.io.files import walk
from hkd_mm.io.progress import check_workers, parallel_map
from hkd_mm.io.tables import write_table

DICOM = ('.dcm', '.ima', '')
OFFSET = 1024  # added to Hounsfield units, which begin at -1024
Pairs = list[tuple[lidc.Scan, lidc.Readings]]


def convert_lidc(
    sources: list[str],
    out: str,
    window: tuple[float, float] | None = None,
    clean: int = 0,
    share: float = 0.5,
    workers: int = 0,
) -> dict:
    """Write ``out/Image``, ``out/Mask`` and ``out/split_dataset.csv``.

    A slice is written once, with all nodules in it, if any is agreed on. Returned are
    ``patients``, ``slices``, ``clean``, ``nodules``, ``unread`` (scans without an XML
    file), ``lost`` (outlines whose slice is missing).

    Args:
        sources: folders with DICOM files and XML files, anywhere below.
        window: (centre, width) in Hounsfield units, stretched to 0..65535; None stores
            Hounsfield units + 1024.
        clean: slices without a nodule to keep of each patient, evenly from those in
            which no reader outlined anything.
        share: of the readers who must agree, in (0, 1].
    """
    check_workers(workers)
    check_out(out)
    wide = window is None or (all(map(math.isfinite, window)) and window[1] > 0)
    if not 0 < share <= 1 or clean < 0 or not wide:
        raise UserError(
            f'--consensus {share} must lie in (0, 1], --clean {clean} must be '
            f'>= 0 and the width of --window {window} a number > 0'
        )
    readings = _find_readings(sources)
    scans = lidc.find_scans(_find_files(sources, DICOM), workers)
    pairs = [(scan, readings[u]) for u, scan in scans.items() if u in readings]
    if not pairs:
        raise UserError(
            f'{" ".join(sources)}: {len(scans)} CT scans and {len(readings)} XML files '
            'of nodules, and no two belong together; give the folders of both'
        )
    pairs.sort(key=lambda pair: pair[0].patient)
    with mark_incomplete(Path(out), 'convert_lidc.py'):
        done = parallel_map(
            partial(_write_scan, Path(out), window, share),
            _jobs(pairs, clean),
            f'converting {len(pairs)} scans',
            workers,
        )
        rows = [row for some, _, _ in done for row in some]
        if rows:
            table = Path(out, 'split_dataset.csv')
            write_table(table, [*rows[0]], (row.values() for row in rows))
    if not rows:  # then nothing was written either
        raise UserError(f'{" ".join(sources)}: no nodule that readers share')
    return dict(
        patients=len({row['patient_id'] for row in rows}),
        slices=len(rows),
        clean=sum(row['is_clean'] == 'TRUE' for row in rows),
        nodules=sum(count for _, count, _ in done),
        unread=len(scans) - len(pairs),
        lost=sum(missing for _, _, missing in done),
    )


def _find_readings(sources: list[str]) -> dict[str, lidc.Readings]:
    """XML files by their series; two different ones of one are refused."""
    found = {}
    for path in _find_files(sources, ('.xml',)):
        one = lidc.read_outlines(path)
        if one is None:
            continue
        first = found.setdefault(one.series_uid, one)
        if not filecmp.cmp(first.path, path, shallow=False):
            raise UserError(
                f'{first.path} and {path} are both about series '
                f'{one.series_uid}; remove one of them'
            )
    return found


def _find_files(sources: list[str], suffixes: Sequence[str]) -> list[Path]:
    """Files with some suffixes, each once, in the order of their paths."""
    found = []
    for source in sources:
        base = check_source(source)
        found += (
            [base]
            if base.is_file()
            else [Path(folder, file) for folder, files in walk(base) for file in files]
        )
    once: dict[Path, Path] = {}  # sources may overlap or link to each other
    for path in sorted(found):
        if path.suffix.lower() in suffixes and not path.name.startswith('.'):
            once.setdefault(path.resolve(), path)
    return list(once.values())


def _jobs(pairs: Pairs, clean: int) -> list[tuple[str, lidc.Scan, lidc.Readings, int]]:
    """Name, scan, outlines and number of clean slices of each scan."""
    seen, jobs = Counter(), []
    totals = Counter(scan.patient for scan, _ in pairs)
    for scan, readings in pairs:
        number, total = seen[scan.patient], totals[scan.patient]
        seen[scan.patient] += 1
        share = clean * (number + 1) // total - clean * number // total
        name = scan.patient if total == 1 else f'{scan.patient}_scan{number}'
        jobs.append((name, scan, readings, share))
    return jobs


def _write_scan(
    out: Path, window: tuple[float, float] | None, share: float, job: tuple
) -> tuple[list[dict], int, int]:
    """Write the slices of one scan; its rows, nodules and outlines without a slice."""
    name, scan, readings, clean = job
    marked, lost = _marked(scan, readings)
    shape = scan.slices[0].shape
    nodules = lidc.agreed_nodules(readings, scan.slice_of, shape, share)
    # also slices reconstructed twice at the position of a marked one
    positions = {scan.slices[n].position for n in marked}
    free = [n for n, one in enumerate(scan.slices) if one.position not in positions]
    count = min(clean, len(free))
    kept = {free[(2 * i + 1) * len(free) // (2 * count)] for i in range(count)}
    rows = []
    for number in sorted(kept.union(*(nodule.masks for nodule in nodules))):
        there = {i: a for i, a in enumerate(nodules) if number in a.masks}
        stem = f'{name}_slice{number:04d}'
        one = scan.slices[number]
        pixels = lidc.read_hounsfield(one.path)
        if window is None:
            pixels += OFFSET
        else:
            pixels = (pixels - window[0] + window[1] / 2) * (65535 / window[1])
        pixels = np.clip(np.rint(pixels), 0, 65535).astype(np.uint16)
        _save(pixels, out / 'Image' / one.patient / f'{stem}.png')
        if there:
            mask = np.any([a.masks[number] for a in there.values()], 0)
            if mask.shape != pixels.shape:
                raise UserError(f'{one.path} differs in size from its scan')
            mask = mask.astype(np.uint8) * 255
            _save(mask, out / 'Mask' / one.patient / f'{stem}.png')
        rows.append(_row(one, number, stem, there))
    return rows, len(nodules), lost


def _marked(scan: lidc.Scan, readings: lidc.Readings) -> tuple[set[int], int]:
    """Slices with any outline, and the number of outlines without a slice."""
    outlines = [outline for nodule in readings.nodules for outline in nodule.outlines]
    numbers = [*map(scan.slice_of, outlines)]
    lost = numbers.count(None)
    if numbers and lost == len(numbers):
        raise UserError(
            f'{readings.path}: the slices of all {lost} outlines are missing from the '
            f'{len(scan.slices)} files of series {readings.series_uid}; complete its '
            'download, or take the XML file away'
        )
    return set(numbers) - {None}, lost


def _row(
    one: lidc.Slice, number: int, stem: str, there: dict[int, lidc.Agreed]
) -> dict:
    rated = [a.malignancy for a in there.values() if a.malignancy is not None]
    worst = max(rated, default=None)
    # one number where pixels are square, else height and width
    spacing = dict.fromkeys(one.spacing or ())
    return dict(
        patient_id=one.patient,
        nodule_no=';'.join(map(str, there)),
        slice_no=number,
        original_image=stem,
        mask_image=stem if there else '',
        malignancy='' if worst is None else f'{worst:g}',
        is_cancer='' if worst in (None, 3) else str(worst > 3).upper(),
        is_clean='FALSE' if there else 'TRUE',
        pixel_spacing=' '.join(f'{side:g}' for side in spacing),
    )


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
