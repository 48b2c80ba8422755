# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Draw CT-like slices with nodules of graded difficulty.

They teach nothing about lungs. A patient has lungs and one nodule; the slices go
through it at different heights, with vessels and noise, and some hold none of it.
"""

from collections import Counter
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from _demo_images import building
from numpy.random import Generator, default_rng
from pydantic import Field
from scipy.ndimage import gaussian_filter
from typing_extensions import TypedDict

from hkd_mm.io.progress import check_workers, parallel_map
from hkd_mm.io.schema import validate
from hkd_mm.io.tables import write_table

AIR, LUNG, TISSUE = -1000.0, -850.0, 40.0  # HU
OFFSET = 1024  # stored values are HU + 1024
_EDGE = 0.35  # softness of an edge, in pixels of 64
_PARTS = dict(train=0.5, val=0.2, test=0.3)  # of the patients
_CLEAN = 4  # one slice in so many holds no nodule


class Grade(NamedTuple):
    """Difficulty of finding and outlining a nodule."""

    radius: tuple[float, float]  # range, in pixels of a slice of 64
    contrast: tuple[float, float]  # range of its centre above the lung, in HU
    ragged: float  # amplitude of its border's harmonics, of the radius
    vessels: float  # mean number in a slice, some of them as round as a nodule
    noise: float  # standard deviation of a pixel, in HU


GRADES = dict(
    easy=Grade((5.0, 8.0), (700.0, 900.0), 0.05, 6.0, 25.0),
    medium=Grade((3.5, 6.0), (400.0, 800.0), 0.15, 14.0, 45.0),
    hard=Grade((2.5, 5.0), (200.0, 600.0), 0.25, 24.0, 70.0),
)


class _Options(TypedDict):
    grade: Literal['easy', 'medium', 'hard']
    patients: Annotated[int, Field(ge=10, le=100_000)]
    slices: Annotated[int, Field(ge=2, le=1000)]
    size: Annotated[int, Field(ge=32, le=4096)]
    seed: Annotated[int, Field(ge=0)]


def make_demo_slices(
    out: str,
    grade: str = 'medium',
    patients: int = 60,
    slices: int = 8,
    size: int = 64,
    seed: int = 0,
    workers: int = 0,
) -> dict:
    """Write slices, masks and ``split_dataset.csv``, split by patients.

    Half of the patients are for training, a fifth for validation. ``slices`` are of
    each patient, of ``size`` pixels a side. Returned are ``counts`` (part -> slices),
    ``clean`` and ``new`` (False when this very set was there already).
    """
    check_workers(workers)
    options = dict(grade=grade, patients=patients, slices=slices, size=size, seed=seed)
    validate(_Options, options, 'make_demo_slices')
    root, made_by = Path(out), dict(version=1, **options)
    rows = _plan(patients, slices)
    with building(root, made_by) as new:
        if new:
            draw = partial(_write_slice, root, made_by)
            parallel_map(draw, rows, 'drawing slices', workers)
            columns = 'patient_id original_image mask_image is_clean mode'.split()
            cells = map(itemgetter(*columns), rows)
            write_table(root / 'split_dataset.csv', columns, cells)
    return dict(
        counts=dict(Counter(row['mode'] for row in rows)),
        clean=sum(row['is_clean'] == 'TRUE' for row in rows),
        new=new,
    )


def _plan(patients: int, slices: int) -> list[dict]:
    ends = np.rint(np.cumsum(list(_PARTS.values())) * patients)
    rows = []
    for patient in range(patients):
        part = list(_PARTS)[int(np.searchsorted(ends, patient, 'right'))]
        for number in range(slices):
            name = f'DEMO_{patient:04d}_{number:02d}'
            clean = (patient + number) % _CLEAN == 0
            mask = '' if clean else name
            rows.append(
                dict(patient_id=f'PATIENT_{patient:04d}', original_image=name,
                     mask_image=mask, is_clean=str(clean).upper(), mode=part,
                     patient=patient, number=number)
            )  # fmt: skip
    return rows


def _write_slice(root: Path, made_by: dict, row: dict) -> None:
    from PIL import Image

    seed, patient = made_by['seed'], row['patient']
    own = default_rng([seed, 2, patient, row['number']])
    height = own.uniform(-0.8, 0.8) if row['mask_image'] else None
    pixels, mask = draw_slice(
        GRADES[made_by['grade']],
        made_by['size'],
        default_rng([seed, 1, patient]),
        own,
        height,
    )
    found = dict(Image=pixels)
    if row['mask_image']:
        found['Mask'] = mask.astype(np.uint8) * 255
    for folder, content in found.items():
        path = root / folder / row['patient_id']
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(content).save(path / f'{row["original_image"]}.png')


def draw_slice(
    grade: Grade, side: int, patient: Generator, slice_: Generator, height: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a slice, (side, side) uint16, and its mask, bool.

    ``patient`` draws what all slices of a patient share, ``slice_`` the rest;
    ``height`` is that above the nodule's centre, in radii, None for a slice without it.
    The mask are pixels of the lungs half the way to the nodule's centre or more,
    without noise.
    """
    scale = side / 64
    grid = np.mgrid[:side, :side].astype(np.float64)
    centre = (np.array((32, 32)) + patient.uniform(-1, 1, 2)) * scale
    body = _ellipse(grid, centre, np.array([27, 30]) * scale, scale)
    lungs, centres = np.zeros((side, side)), []
    for column in (20, 44):
        centre = np.array((32, column)) + patient.uniform(-1.5, 1.5, 2)
        size = patient.uniform((15, 8), (19, 10)) * scale
        centres.append((centre * scale, size))
        lungs = np.maximum(lungs, _ellipse(grid, *centres[-1], scale))
    centre = _inside(patient, centres, 0.65)
    radius = patient.uniform(*grade.radius) * scale
    image = AIR + (TISSUE - AIR) * body + (LUNG - TISSUE) * lungs
    noise = gaussian_filter(slice_.normal(size=(side, side)), 2 * scale)
    image += noise / noise.std() * 30
    for _ in range(slice_.poisson(grade.vessels)):
        image = np.maximum(image, _vessel(slice_, grid, centres, scale))
    mask = np.zeros((side, side), bool)
    if height is not None:
        radius *= np.sqrt(max(1 - height**2, 0.05))
        share = _disc(grid, centre, radius, slice_, grade.ragged, scale)
        contrast = patient.uniform(*grade.contrast)
        image = np.maximum(image, LUNG + contrast * share)
        mask = (share >= 0.5) & (lungs >= 0.5)
    image += slice_.normal(0, grade.noise, image.shape)
    stored = np.clip(np.rint(image) + OFFSET, 0, 65535)
    return stored.astype(np.uint16), mask


def _soft(distance: np.ndarray, scale: float) -> np.ndarray:
    """1 inside, 0 outside, of signed distances in pixels."""
    return 1 / (1 + np.exp(np.clip(distance / (_EDGE * scale), -50, 50)))


def _ellipse(
    grid: np.ndarray, centre: np.ndarray, size: np.ndarray, scale: float
) -> np.ndarray:
    (y, x), (cy, cx) = grid, centre
    distance = np.hypot((y - cy) / size[0], (x - cx) / size[1])
    return _soft((distance - 1) * size.min(), scale)


def _inside(rng: Generator, centres: list, reach: float) -> np.ndarray:
    """A point in one of the lungs, as far out as ``reach``."""
    centre, size = centres[rng.integers(len(centres))]
    angle, distance = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform()) * reach
    return centre + distance * size * (np.sin(angle), np.cos(angle))


def _disc(
    grid: np.ndarray,
    centre: np.ndarray,
    radius: float,
    rng: Generator,
    ragged: float,
    scale: float,
) -> np.ndarray:
    """A disc with a ragged border."""
    y, x = grid[0] - centre[0], grid[1] - centre[1]
    angle = np.arctan2(y, x)
    border = np.ones_like(angle)
    for order in (2, 3, 5):
        phase = rng.uniform(0, 2 * np.pi)
        border += ragged / order * np.sin(order * angle + phase)
    return _soft(np.hypot(y, x) - radius * border, scale)


def _vessel(
    rng: Generator, grid: np.ndarray, centres: list, scale: float
) -> np.ndarray:
    """A tube seen from the side or from its end, in HU."""
    centre = _inside(rng, centres, 0.9)
    angle = rng.uniform(0, np.pi)
    length = rng.choice((0.0, rng.uniform(3, 14))) * scale  # half are discs
    width = rng.uniform(0.5, 1.4) * scale
    y, x = grid[0] - centre[0], grid[1] - centre[1]
    along = y * np.sin(angle) + x * np.cos(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    beyond = np.maximum(np.abs(along) - length / 2, 0)
    share = _soft(np.hypot(beyond, across) - width, scale)
    return LUNG + rng.uniform(400, 900) * share
