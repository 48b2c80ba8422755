# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The XML files of LIDC-IDRI: what each reader outlined."""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError

_ROOT = 'LidcReadMessage'


@dataclass
class Outline:
    """One closed line in one slice.

    Args:
        uid: SOP instance UID of the slice, may be empty.
        z: position of the slice in mm, NaN where it is not told.
        inclusion: what is inside belongs to the nodule; False takes it out.
        points: (N, 2) int32, x and y of pixels, counted from 0.
    """

    uid: str
    z: float
    inclusion: bool
    points: np.ndarray


@dataclass
class Nodule:
    """A nodule as one reader outlined it.

    Args:
        reader: number of the reading session.
        malignancy: 1 to 5; None for nodules below 3 mm.
        outlines: in any order.
    """

    reader: int
    malignancy: int | None
    outlines: list[Outline] = field(default_factory=list)


@dataclass
class Readings:
    """All of one XML file.

    Args:
        path: of the file.
        series_uid: of the CT scan.
        readers: number of reading sessions.
        nodules: of all readers.
    """

    path: str
    series_uid: str
    readers: int
    nodules: list[Nodule]


def read_outlines(path: str | Path) -> Readings | None:
    """Read one XML file; None where it is about something else.

    Marks of what is no nodule (``nonNodule``) are left out.

    Raises:
        UserError: it cannot be read, or lacks a number where one must be.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f'{path} cannot be read: {error}') from None
    if _name(root) != _ROOT:
        return None
    sessions = _children(root, 'readingSession')
    try:
        nodules = [
            _nodule(node, number)
            for number, session in enumerate(sessions)
            for node in _children(session, 'unblindedReadNodule')
        ]
    except ValueError as error:
        raise UserError(f'{path}: {error}') from None
    header = _children(root, 'ResponseHeader')
    uid = _text(header[0], 'SeriesInstanceUid') if header else ''
    return Readings(str(path), uid, len(sessions), nodules)


def _nodule(node: ElementTree.Element, reader: int) -> Nodule:
    rated = _children(node, 'characteristics')
    word = _text(rated[0], 'malignancy') if rated else ''
    outlines = [_outline(roi) for roi in _children(node, 'roi')]
    return Nodule(reader, int(word) if word else None, outlines)


def _outline(roi: ElementTree.Element) -> Outline:
    points = [
        (int(_text(point, 'xCoord')), int(_text(point, 'yCoord')))
        for point in _children(roi, 'edgeMap')
    ]
    return Outline(
        uid=_text(roi, 'imageSOP_UID'),
        z=float(_text(roi, 'imageZposition') or 'nan'),
        inclusion=_text(roi, 'inclusion').upper() != 'FALSE',
        points=np.array(points, np.int32).reshape(-1, 2),
    )


def _name(node: ElementTree.Element) -> str:
    return node.tag.rpartition('}')[2]


def _children(
    node: ElementTree.Element, name: str
) -> list[ElementTree.Element]:
    return [child for child in node if _name(child) == name]


def _text(node: ElementTree.Element, name: str) -> str:
    found = _children(node, name)
    return (found[0].text or '').strip() if found else ''
