# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One scan of LIDC-IDRI written as slices and masks."""

from pathlib import Path

import numpy as np
from PIL import Image

from hkd_mm.errors import UserError

from .consensus import Agreed, agreed_nodules
from .outlines import Readings
from .scans import Scan, Slice, read_hounsfield

OFFSET = 1024  # added to Hounsfield units, which begin at -1024


def write_scan(
    out: Path, window: tuple[float, float] | None, share: float, job: tuple
) -> tuple[list[dict], int, int]:
    """Write the slices of one scan.

    Args:
        out: data root.
        window: see :func:`stored`.
        share: of the readers who must agree.
        job: name of the files, scan, outlines, number of clean slices.

    Returns:
        Rows of the table, the number of nodules, and that of outlines whose
        slice is not among the files.

    Raises:
        UserError: that is so of all of them, or a slice cannot be read.
    """
    name, scan, readings, clean = job
    marked, lost = _marked(scan, readings)
    shape = scan.slices[0].shape
    nodules = agreed_nodules(readings, scan.slice_of, shape, share)
    # also what was reconstructed twice at the place of a marked one
    places = {scan.slices[n].place for n in marked}
    free = [n for n, one in enumerate(scan.slices) if one.place not in places]
    rows = []
    for number in sorted(
        {n for nodule in nodules for n in nodule.masks}
        | set(_some(free, clean))
    ):
        there = {i: a for i, a in enumerate(nodules) if number in a.masks}
        stem = f'{name}_slice{number:04d}'
        one = scan.slices[number]
        pixels = stored(read_hounsfield(one.path), window)
        _save(pixels, out / 'Image' / one.patient / f'{stem}.png')
        if there:
            mask = np.any([a.masks[number] for a in there.values()], 0)
            if mask.shape != pixels.shape:
                raise UserError(f'{one.path} differs in size from its scan')
            mask = mask.astype(np.uint8) * 255
            _save(mask, out / 'Mask' / one.patient / f'{stem}.png')
        rows.append(_row(one, number, stem, there))
    return rows, len(nodules), lost


def _marked(scan: Scan, readings: Readings) -> tuple[set[int], int]:
    """Slices that anyone outlined anything in, and outlines without one."""
    places = [
        scan.slice_of(outline)
        for nodule in readings.nodules
        for outline in nodule.outlines
    ]
    lost = places.count(None)
    if places and lost == len(places):
        raise UserError(
            f'{readings.path}: the slices of all {lost} outlines are missing '
            f'from the {len(scan.slices)} files of series '
            f'{readings.series_uid}; complete its download, or take the XML '
            'file away'
        )
    return set(places) - {None}, lost


def stored(
    hounsfield: np.ndarray, window: tuple[float, float] | None
) -> np.ndarray:
    """Hounsfield units as 16-bit values.

    Args:
        hounsfield: any shape.
        window: (centre, width), stretched to 0..65535; None adds 1024.
    """
    if window is None:
        values = hounsfield + OFFSET
    else:
        centre, width = window
        values = (hounsfield - centre + width / 2) * (65535 / width)
    return np.clip(np.rint(values), 0, 65535).astype(np.uint16)


def _some(numbers: list[int], count: int) -> list[int]:
    """At most ``count`` of some numbers, evenly from all of them."""
    count = min(count, len(numbers))
    return [
        numbers[(2 * i + 1) * len(numbers) // (2 * count)]
        for i in range(count)
    ]


def _row(one: Slice, number: int, stem: str, there: dict[int, Agreed]) -> dict:
    rated = [a.malignancy for a in there.values() if a.malignancy is not None]
    worst = max(rated, default=None)
    cancer = '' if worst in (None, 3) else str(worst > 3).upper()
    return dict(
        patient_id=one.patient,
        nodule_no=';'.join(map(str, there)),
        slice_no=number,
        original_image=stem,
        mask_image=stem if there else '',
        malignancy='' if worst is None else f'{worst:g}',
        is_cancer=cancer,
        is_clean='FALSE' if there else 'TRUE',
        pixel_spacing=_spacing(one),
    )


def _spacing(one: Slice) -> str:
    """One number where pixels are square, else height and width."""
    return ' '.join(f'{side:g}' for side in dict.fromkeys(one.spacing or ()))


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
