# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""CT scans as ordered DICOM slices."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.parallel import parallel_map

from .outlines import Outline

_TAGS = (
    'Modality',
    'PatientID',
    'SeriesInstanceUID',
    'SOPInstanceUID',
    'ImagePositionPatient',
    'ImageOrientationPatient',
    'PixelSpacing',
    'InstanceNumber',
    'Rows',
    'Columns',
)


@dataclass
class Slice:
    """One file of a scan.

    Args:
        path: of the file.
        series_uid: of the scan.
        uid: SOP instance UID.
        patient: patient id, fit for a file name.
        place: position along the axis of the scan, in mm.
        z: third coordinate of the position, which the XML files name, in mm.
        number: instance number, 0 where there is none.
        shape: (H, W).
        spacing: mm from row to row and from column to column; None where
            it is not told.
    """

    path: str
    series_uid: str
    uid: str
    patient: str
    place: float
    z: float
    number: int
    shape: tuple[int, int]
    spacing: tuple[float, float] | None


@dataclass
class Scan:
    """Slices of one series, ordered by their position."""

    slices: list[Slice]

    def slice_of(self, outline: Outline) -> int | None:
        """Number of the slice of an outline: by its UID, else by its z."""
        for number, one in enumerate(self.slices):
            if outline.uid and one.uid == outline.uid:
                return number
        if outline.uid or math.isnan(outline.z):
            return None
        gaps = [abs(one.z - outline.z) for one in self.slices]
        best = int(np.argmin(gaps))
        return best if gaps[best] < 0.1 else None


def require_pydicom() -> None:
    """Refuse to begin without it.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise UserError(
            'DICOM files need pydicom, which is not installed; pip install '
            '"pydicom>=3"'
        ) from None


def find_scans(files: Sequence[Path], workers: int = 0) -> dict[str, Scan]:
    """CT scans by series UID; what is no CT slice is passed over.

    Args:
        files: DICOM files.
        workers: processes, 0 for all cores.

    Raises:
        UserError: a file is damaged, its position is not told, or two files
            that differ call themselves the same slice.
    """
    found = parallel_map(
        read_header, map(str, files), f'reading {len(files)} headers', workers
    )
    by_series = defaultdict(dict)
    for one in found:
        if one is not None:
            first = by_series[one.series_uid].setdefault(one.uid, one)
            _check_copy(first, one)
    return {
        uid: Scan(
            sorted(slices.values(), key=lambda one: (one.place, one.number))
        )
        for uid, slices in sorted(by_series.items())
    }


def _check_copy(first: Slice, other: Slice) -> None:
    """A slice may lie there twice, two slices of one name may not."""
    if first is other:
        return
    if Path(first.path).read_bytes() != Path(other.path).read_bytes():
        raise UserError(
            f'{first.path} and {other.path} are both slice {first.uid} and '
            'differ; remove one of them'
        )


def read_header(path: str) -> Slice | None:
    """What is known of a CT slice; None for other DICOM files.

    Raises:
        UserError: not a DICOM file, damaged, or its position is not told.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        data = dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        if data.get('Modality') != 'CT':
            return None
        position = [float(x) for x in data.ImagePositionPatient]
        sides = data.get('PixelSpacing')
        return Slice(
            path=path,
            series_uid=str(data.SeriesInstanceUID),
            uid=str(data.SOPInstanceUID),
            patient=re.sub(r'[^\w.-]+', '_', str(data.PatientID)),
            place=_along(position, data.get('ImageOrientationPatient')),
            z=position[2],
            number=int(data.get('InstanceNumber') or 0),
            shape=(int(data.Rows), int(data.Columns)),
            spacing=(float(sides[0]), float(sides[1])) if sides else None,
        )
    except (InvalidDicomError, OSError, EOFError) as error:
        if isinstance(error, InvalidDicomError) and not Path(path).suffix:
            return None
        raise UserError(f'{path} cannot be read: {error}') from None
    except (AttributeError, TypeError, IndexError, ValueError) as error:
        raise UserError(f'{path} is no whole CT slice: {error}') from None


def read_hounsfield(path: str) -> np.ndarray:
    """Pixels in Hounsfield units, (H, W) float64.

    Raises:
        UserError: the pixels are missing, damaged or packed in a way that
            needs another package.
    """
    from pydicom import dcmread

    try:
        data = dcmread(path)
        pixels = data.pixel_array
    except Exception as error:  # decoders raise what they like
        line = str(error).splitlines()[0] if str(error) else repr(error)
        raise UserError(f'{path}: its pixels cannot be read: {line}') from None
    if pixels.ndim != 2:
        raise UserError(f'{path} holds {pixels.shape}, not one grey slice')
    slope = float(data.get('RescaleSlope', 1))
    return pixels * slope + float(data.get('RescaleIntercept', 0))


def _along(
    position: list[float], orientation: Sequence[float] | None
) -> float:
    """Position along the normal of the slice."""
    if not orientation:
        return position[2]
    row, column = np.array(orientation, float).reshape(2, 3)
    return float(np.dot(np.cross(row, column), position))
