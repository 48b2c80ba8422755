# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Outlines of several readers matched and put to the vote."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np

from .outlines import Nodule, Outline, Readings

Masks = dict[int, np.ndarray]  # slice -> (H, W) bool


@dataclass
class Agreed:
    """A nodule that enough readers outlined.

    Args:
        masks: slice -> (H, W) bool, pixels that enough readers include.
        malignancy: median of those who rated it, 1 to 5; None for nobody.
    """

    masks: Masks
    malignancy: float | None


def agreed_nodules(
    readings: Readings,
    slice_of: Callable[[Outline], int | None],
    shape: tuple[int, int],
    share: float = 0.5,
) -> list[Agreed]:
    """The nodules of a scan, ordered by their first slice.

    Nodules of different readers that share a pixel are one nodule. A pixel
    belongs to it if at least ``share`` of all readers of the scan include it,
    2 of 4 by default; where no pixel does, the nodule is left out.

    Args:
        readings: of one XML file.
        slice_of: number of the slice of an outline, None where it has none.
        shape: (H, W) of the slices.
        share: in (0, 1].
    """
    volumes = [volume(nodule, slice_of, shape) for nodule in readings.nodules]
    needed = max(1, math.ceil(share * readings.readers - 1e-9))
    found = []
    for group in _groups(volumes):
        masks = _vote(
            [(readings.nodules[i].reader, volumes[i]) for i in group], needed
        )
        rated = [readings.nodules[i].malignancy for i in group]
        rated = [number for number in rated if number is not None]
        if masks:
            found.append(Agreed(masks, median(rated) if rated else None))
    return sorted(found, key=lambda nodule: min(nodule.masks))


def volume(
    nodule: Nodule,
    slice_of: Callable[[Outline], int | None],
    shape: tuple[int, int],
) -> Masks:
    """The slices of a nodule that have a pixel of it.

    Args:
        nodule: of one reader.
        slice_of: see :func:`agreed_nodules`.
        shape: (H, W).
    """
    by_slice = defaultdict(list)
    for outline in nodule.outlines:
        number = slice_of(outline)
        if number is not None:
            by_slice[number].append(outline)
    masks = {n: fill(lines, shape) for n, lines in by_slice.items()}
    return {n: mask for n, mask in masks.items() if mask.any()}


def fill(outlines: list[Outline], shape: tuple[int, int]) -> np.ndarray:
    """What the outlines of one slice enclose, (H, W) bool.

    Readers drew the line around the nodule: the pixels of the line itself
    are outside of it, those of an excluding line as well.
    """
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


def _groups(volumes: list[Masks]) -> list[list[int]]:
    """Numbers of volumes that hang together by shared pixels."""
    home = list(range(len(volumes)))
    for one in range(len(volumes)):
        for two in range(one):
            if home[one] != home[two] and _touch(volumes[one], volumes[two]):
                old, new = home[one], home[two]
                home = [new if number == old else number for number in home]
    groups = defaultdict(list)
    for number, first in enumerate(home):
        groups[first].append(number)
    return list(groups.values())


def _touch(one: Masks, two: Masks) -> bool:
    return any((one[n] & two[n]).any() for n in one.keys() & two.keys())


def _vote(volumes: list[tuple[int, Masks]], needed: int) -> Masks:
    """Pixels that at least ``needed`` readers include."""
    by_reader = defaultdict(dict)  # a reader has one vote a pixel
    for reader, masks in volumes:
        mine = by_reader[reader]
        for number, mask in masks.items():
            mine[number] = mine.get(number, False) | mask
    votes = {}
    for masks in by_reader.values():
        for number, mask in masks.items():
            votes[number] = votes.get(number, 0) + mask.astype(np.uint8)
    found = {number: count >= needed for number, count in votes.items()}
    return {n: mask for n, mask in sorted(found.items()) if mask.any()}
