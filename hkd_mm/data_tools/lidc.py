# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read CT scans of LIDC-IDRI, and vote on the outlines of their readers."""

import filecmp
import math
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from hkd_mm.datasets.records import connected_groups
from hkd_mm.errors import UserError, first_line
from hkd_mm.io.progress import parallel_map
from hkd_mm.lazy import require

Masks = dict[int, np.ndarray]  # slice -> (H, W) bool
# The largest of LIDC-IDRI has 2 MB and 100 nodules, its slices 512 x 512 pixels.
_LARGEST_XML, _MOST_NODULES, _FARTHEST = 2**24, 1000, 4096
_DEFLATED = '1.2.840.10008.1.2.1.99'  # a transfer syntax that unpacks without end
_TAGS = (
    'Modality PatientID SeriesInstanceUID SOPInstanceUID ImagePositionPatient '
    'ImageOrientationPatient PixelSpacing InstanceNumber Rows Columns'
).split()


@dataclass
class Outline:
    """One closed line in one slice."""

    uid: str  # SOP instance UID of the slice, may be empty
    z: float  # of the slice, in mm; NaN if unknown
    inclusion: bool  # the inside belongs to the nodule; False takes it out
    points: np.ndarray  # (N, 2) int32, x and y of pixels, counted from 0


@dataclass
class Nodule:
    """A nodule as one reader outlined it."""

    reader: int  # number of the reading session
    malignancy: int | None  # 1 to 5; None for nodules below 3 mm
    outlines: list[Outline] = field(default_factory=list)


@dataclass
class Readings:
    """Contents of one XML file: all nodules of all its ``readers``."""

    path: str
    series_uid: str
    readers: int
    nodules: list[Nodule]


@dataclass
class Slice:
    """One file of a scan."""

    path: str
    series_uid: str  # of the scan
    uid: str  # SOP instance UID
    patient: str  # fit for a file name
    position: float  # along the axis of the scan, in mm
    z: float  # third coordinate of the position, as in the XML files, in mm
    number: int  # of the instance, 0 without one
    shape: tuple[int, int]  # (H, W)
    spacing: tuple[float, float] | None  # mm between rows and between columns


@dataclass
class Scan:
    """Slices of one series, ordered by their position."""

    slices: list[Slice]

    @property
    def patient(self) -> str:
        return self.slices[0].patient

    def slice_of(self, outline: Outline) -> int | None:
        """Number of the slice of an outline: by its UID, else by its z."""
        if outline.uid:
            found = (n for n, one in enumerate(self.slices) if one.uid == outline.uid)
            return next(found, None)
        gaps = [abs(one.z - outline.z) for one in self.slices]
        best = int(np.argmin(gaps))
        return best if gaps[best] < 0.1 else None  # NaN is not


@dataclass
class Agreed:
    """A nodule that enough readers outlined."""

    masks: Masks  # pixels that enough readers include
    malignancy: float | None  # median of the ratings, 1 to 5


def read_outlines(path: str | Path) -> Readings | None:
    """Read the nodules of one XML file; None for other XML files.

    One with entities (they may unpack without end), or far larger than usual, is
    refused.
    """
    try:
        data = Path(path).read_bytes()
        # zero bytes: in UTF-16 the letters are apart
        if len(data) > _LARGEST_XML or b'<!DOCTYPE' in data.replace(b'\0', b''):
            raise ValueError(
                f'more than {_LARGEST_XML} bytes or a DOCTYPE, which no file of '
                'readings has; take it away'
            )
        root = ElementTree.fromstring(data)
        if root.tag.rpartition('}')[2] != 'LidcReadMessage':
            return None
        sessions = _children(root, 'readingSession')
        nodules = []
        for number, session in enumerate(sessions):
            for node in _children(session, 'unblindedReadNodule'):
                word = _text(node, 'characteristics/{*}malignancy')
                outlines = [_outline(roi) for roi in _children(node, 'roi')]
                nodules.append(Nodule(number, int(word) if word else None, outlines))
        if len(nodules) > _MOST_NODULES:
            raise ValueError(f'more than {_MOST_NODULES} nodules')
    except (OSError, ValueError, LookupError, ElementTree.ParseError) as error:
        raise UserError(f'{path} cannot be read: {error}') from None
    uid = _text(root, 'ResponseHeader/{*}SeriesInstanceUid')
    return Readings(str(path), uid, len(sessions), nodules)


def _outline(roi: ElementTree.Element) -> Outline:
    points = [
        (int(_text(point, 'xCoord')), int(_text(point, 'yCoord')))
        for point in _children(roi, 'edgeMap')
    ]
    if any(abs(number) > _FARTHEST for point in points for number in point):
        raise ValueError(f'a point lies more than {_FARTHEST} pixels away')
    return Outline(
        uid=_text(roi, 'imageSOP_UID'),
        z=float(_text(roi, 'imageZposition') or 'nan'),
        inclusion=_text(roi, 'inclusion').upper() != 'FALSE',
        points=np.array(points, np.int32).reshape(-1, 2),
    )


def _children(node: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return node.findall(f'{{*}}{name}')  # in any namespace


def _text(node: ElementTree.Element, name: str) -> str:
    return (node.findtext(f'{{*}}{name}') or '').strip()


def find_scans(files: Sequence[Path], workers: int = 0) -> dict[str, Scan]:
    """Read CT scans by series UID; other DICOM files are skipped."""
    require('pydicom', 'DICOM', '"pydicom>=3"')
    found = parallel_map(
        read_header, map(str, files), f'reading {len(files)} headers', workers
    )
    by_series = defaultdict(dict)
    for one in found:
        if one is not None:
            first = by_series[one.series_uid].setdefault(one.uid, one)
            if not filecmp.cmp(first.path, one.path, shallow=False):
                raise UserError(
                    f'{first.path} and {one.path} are both slice {one.uid} '
                    'and differ; remove one of them'
                )
    return {
        uid: Scan(sorted(slices.values(), key=lambda one: (one.position, one.number)))
        for uid, slices in sorted(by_series.items())
    }


def read_header(path: str) -> Slice | None:
    """Read the header of a CT slice; None for other files."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    try:
        if read_file_meta_info(path).get('TransferSyntaxUID') == _DEFLATED:
            raise ValueError('deflated files are not read; convert it with dcmconv')
        data = dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        if 'Modality' not in data and Path(path).suffix:
            raise ValueError('it ends before its modality')
        if data.get('Modality') != 'CT':
            return None
        origin = [float(x) for x in data.ImagePositionPatient]
        position, orientation = origin[2], data.get('ImageOrientationPatient')
        if orientation:  # along the normal of the slice
            row, column = np.array(orientation, float).reshape(2, 3)
            position = float(np.dot(np.cross(row, column), origin))
        sides = data.get('PixelSpacing')
        patient = re.sub(r'[^\w.-]+', '_', str(data.PatientID)).lstrip('.')[:64]
        found = Slice(
            path=path,
            series_uid=str(data.SeriesInstanceUID),
            uid=str(data.SOPInstanceUID),
            patient=patient or 'unknown',
            position=position,
            z=origin[2],
            number=int(data.get('InstanceNumber') or 0),
            shape=(int(data.Rows), int(data.Columns)),
            spacing=(float(sides[0]), float(sides[1])) if sides else None,
        )
        if not (math.isfinite(found.position) and math.isfinite(found.z)):
            raise ValueError(f'its position is {origin}')
        if not 0 < min(found.shape) <= max(found.shape) <= _FARTHEST:
            raise ValueError(f'it has {found.shape} pixels')
        return found
    except Exception as error:  # damaged headers raise errors of any type
        if isinstance(error, InvalidDicomError) and not Path(path).suffix:
            return None
        raise UserError(
            f'{path} cannot be read as a CT slice: {first_line(error)}'
        ) from None


def read_hounsfield(path: str) -> np.ndarray:
    """Pixels in Hounsfield units, (H, W) float64."""
    from pydicom import dcmread

    try:
        data = dcmread(path)
        pixels = data.pixel_array
        if pixels.ndim != 2:
            raise ValueError(f'{pixels.shape} is not one grey slice')
        slope = float(data.get('RescaleSlope', 1))
        values = pixels * slope + float(data.get('RescaleIntercept', 0))
        if not np.isfinite(values).all():
            raise ValueError('its rescale slope or intercept is no number')
    except Exception as error:  # decoders raise errors of any type
        raise UserError(
            f'{path}: its pixels cannot be read: {first_line(error)}'
        ) from None
    return values


def agreed_nodules(
    readings: Readings,
    slice_of: Callable[[Outline], int | None],
    shape: tuple[int, int],
    share: float = 0.5,
) -> list[Agreed]:
    """Vote on the nodules of a scan, ordered by their first slice.

    Nodules of different readers that share a pixel are one nodule. A pixel belongs to
    it if at least ``share`` of all readers of the scan include it; a nodule without
    such a pixel is left out. ``shape`` is (H, W) of the slices.
    """
    volumes = []
    for nodule in readings.nodules:
        by_slice = defaultdict(list)
        for outline in nodule.outlines:
            number = slice_of(outline)
            if number is not None:
                by_slice[number].append(outline)
        masks = {n: fill_outlines(lines, shape) for n, lines in by_slice.items()}
        volumes.append({n: mask for n, mask in masks.items() if mask.any()})
    needed = max(1, math.ceil(share * readings.readers - 1e-9))
    touching = [
        (i, j)
        for (i, one), (j, other) in combinations(enumerate(volumes), 2)
        if any((one[n] & other[n]).any() for n in one.keys() & other)
    ]
    groups = defaultdict(list)
    for i, group in enumerate(connected_groups(len(volumes), touching)):
        groups[group].append(i)
    found = []
    for group in groups.values():
        masks = _vote([(readings.nodules[i].reader, volumes[i]) for i in group], needed)
        rated = [readings.nodules[i].malignancy for i in group]
        rated = [number for number in rated if number is not None]
        if masks:
            found.append(Agreed(masks, median(rated) if rated else None))
    return sorted(found, key=lambda nodule: min(nodule.masks))


def fill_outlines(outlines: list[Outline], shape: tuple[int, int]) -> np.ndarray:
    """The area inside of the outlines of one slice, (H, W) bool, without the lines."""
    mask = np.zeros(shape, np.uint8)
    for outline in outlines:
        if outline.inclusion and len(outline.points):
            inside = np.zeros(shape, np.uint8)
            cv2.fillPoly(inside, [outline.points], 1)
            cv2.polylines(inside, [outline.points], True, 0)
            mask |= inside
    for outline in outlines:
        if not outline.inclusion and len(outline.points):
            cv2.fillPoly(mask, [outline.points], 0)
    return mask.astype(bool)


def _vote(volumes: list[tuple[int, Masks]], needed: int) -> Masks:
    marks: dict[tuple[int, int], np.ndarray] = {}  # a reader has one vote a pixel
    for reader, masks in volumes:
        for number, mask in masks.items():
            marks[number, reader] = marks.get((number, reader), False) | mask
    votes: dict[int, np.ndarray] = defaultdict(int)
    for (number, _), mask in sorted(marks.items(), key=lambda item: item[0]):
        votes[number] = votes[number] + mask.astype(np.uint8)
    return {n: count >= needed for n, count in votes.items() if (count >= needed).any()}
