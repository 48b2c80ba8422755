# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Drawing one generated slice of a chest: lungs, vessels, maybe a nodule."""

from dataclasses import dataclass

import numpy as np

AIR, LUNG, TISSUE = -1000.0, -850.0, 40.0  # HU
OFFSET = 1024  # stored values are HU + 1024
_EDGE = 0.35  # softness of an edge, in pixels of 64


@dataclass(frozen=True)
class Grade:
    """How hard a nodule is to find and to outline.

    Args:
        radius: least and most, in pixels of a slice of 64.
        contrast: least and most of its centre above the lung, in HU.
        ragged: amplitude of its border's harmonics, of the radius.
        vessels: mean number in a slice, some of them as round as a nodule.
        noise: standard deviation of a pixel, in HU.
    """

    radius: tuple[float, float]
    contrast: tuple[float, float]
    ragged: float
    vessels: float
    noise: float


GRADES = dict(
    easy=Grade((5.0, 8.0), (700.0, 900.0), 0.05, 6.0, 25.0),
    medium=Grade((3.5, 6.0), (400.0, 800.0), 0.15, 14.0, 45.0),
    hard=Grade((2.5, 5.0), (200.0, 600.0), 0.25, 24.0, 70.0),
)


def draw_slice(
    grade: Grade,
    side: int,
    patient: np.random.Generator,
    slice_: np.random.Generator,
    height: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """One slice and its mask.

    Args:
        grade: of the nodule.
        side: pixels a side.
        patient: what all slices of a patient share is drawn from it.
        slice_: the rest is.
        height: of the slice above the nodule's centre, in radii; None for a
            slice without it.

    Returns:
        (side, side) uint16, and (side, side) bool, the pixels of the lungs
        of which half the way to the nodule's centre is reached without noise.
    """
    scale = side / 64
    y, x = np.mgrid[:side, :side].astype(np.float64)
    body = _ellipse(y, x, _around(patient, (32, 32), 1) * scale,
                    np.array([27, 30]) * scale, scale)  # fmt: skip
    lungs = np.zeros((side, side))
    centres = []
    for column in (20, 44):
        centre = _around(patient, (32, column), 1.5) * scale
        size = patient.uniform((15, 8), (19, 10)) * scale
        lungs = np.maximum(lungs, _ellipse(y, x, centre, size, scale))
        centres.append((centre, size))
    found = _nodule(grade, patient, centres, scale)
    image = AIR + (TISSUE - AIR) * body + (LUNG - TISSUE) * lungs
    image += _texture(slice_, side) * 30
    for _ in range(slice_.poisson(grade.vessels)):
        image = np.maximum(image, _vessel(slice_, y, x, centres, scale))
    mask = np.zeros((side, side), bool)
    if height is not None:
        share = _blob(y, x, *found, height, slice_, grade.ragged, scale)
        contrast = patient.uniform(*grade.contrast)
        image = np.maximum(image, LUNG + contrast * share)
        mask = (share >= 0.5) & (lungs >= 0.5)
    image += slice_.normal(0, grade.noise, image.shape)
    stored = np.clip(np.rint(image) + OFFSET, 0, 65535)
    return stored.astype(np.uint16), mask


def _around(
    rng: np.random.Generator, place: tuple[float, float], spread: float
) -> np.ndarray:
    return np.array(place) + rng.uniform(-spread, spread, 2)


def _inside(
    rng: np.random.Generator, centres: list, reach: float
) -> np.ndarray:
    """A place in one of the lungs, as far out as ``reach``."""
    centre, size = centres[rng.integers(len(centres))]
    angle, away = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform()) * reach
    return centre + away * size * (np.sin(angle), np.cos(angle))


def _nodule(
    grade: Grade, rng: np.random.Generator, centres: list, scale: float
) -> tuple[np.ndarray, float]:
    return _inside(rng, centres, 0.65), rng.uniform(*grade.radius) * scale


def _soft(distance: np.ndarray, scale: float) -> np.ndarray:
    """1 inside, 0 outside, of signed distances in pixels."""
    return 1 / (1 + np.exp(np.clip(distance / (_EDGE * scale), -50, 50)))


def _ellipse(
    y: np.ndarray,
    x: np.ndarray,
    centre: np.ndarray,
    size: np.ndarray,
    scale: float,
) -> np.ndarray:
    away = np.hypot((y - centre[0]) / size[0], (x - centre[1]) / size[1])
    return _soft((away - 1) * size.min(), scale)


def _blob(
    y: np.ndarray,
    x: np.ndarray,
    centre: np.ndarray,
    radius: float,
    height: float,
    rng: np.random.Generator,
    ragged: float,
    scale: float,
) -> np.ndarray:
    """A slice of a ball with a ragged border."""
    angle = np.arctan2(y - centre[0], x - centre[1])
    border = np.ones_like(angle)
    for order in (2, 3, 5):
        phase = rng.uniform(0, 2 * np.pi)
        border += ragged / order * np.sin(order * angle + phase)
    own = radius * np.sqrt(max(1 - height**2, 0.05)) * border
    away = np.hypot(y - centre[0], x - centre[1])
    return _soft(away - own, scale)


def _vessel(
    rng: np.random.Generator,
    y: np.ndarray,
    x: np.ndarray,
    centres: list,
    scale: float,
) -> np.ndarray:
    """A tube seen from the side or from its end, in HU."""
    place = _inside(rng, centres, 0.9)
    angle = rng.uniform(0, np.pi)
    length = rng.choice((0.0, rng.uniform(3, 14))) * scale  # half are discs
    width = rng.uniform(0.5, 1.4) * scale
    along = (y - place[0]) * np.sin(angle) + (x - place[1]) * np.cos(angle)
    across = (y - place[0]) * np.cos(angle) - (x - place[1]) * np.sin(angle)
    beyond = np.maximum(np.abs(along) - length / 2, 0)
    share = _soft(np.hypot(beyond, across) - width, scale)
    return LUNG + rng.uniform(400, 900) * share


def _texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Smooth noise of unit size."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.normal(size=(side, side)), 2 * side / 64)
    return noise / noise.std()
