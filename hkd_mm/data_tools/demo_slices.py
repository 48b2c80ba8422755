# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Generated CT-like slices with nodules of graded difficulty.

They teach nothing about lungs. A patient has lungs and a nodule whose place,
size and contrast are drawn from the ranges of the grade; the slices go
through it at different heights, each with vessels and noise of its own, and
some hold none of it.
"""

import csv
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hkd_mm.data_tools.demo_images import building
from hkd_mm.errors import UserError
from hkd_mm.io.progress import parallel_map

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


_PARTS = dict(train=0.5, val=0.2, test=0.3)  # of the patients
_CLEAN = 4  # one slice in so many holds no nodule


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

    Args:
        out: data root; made when missing. Nothing is done when it already
            holds this very set.
        grade: a key of ``GRADES``.
        patients: half of them for training, a fifth for validation.
        slices: of each patient.
        size: pixels a side.
        seed: the same seed gives the same slices.
        workers: processes, 0 for all cores.

    Returns:
        ``counts`` (part -> slices), ``clean`` and ``new`` (False when they
        were there already).

    Raises:
        UserError: unknown grade, too few or too small slices, or ``out``
            holds others.
    """
    if grade not in GRADES:
        raise UserError(f'--grade {grade}: there are {", ".join(GRADES)}')
    if patients < 10 or slices < 2 or size < 32:
        raise UserError(
            f'--patients {patients} --slices {slices} --size {size}: at '
            'least 10 patients with 2 slices of 32 pixels are needed'
        )
    root = Path(out)
    made_by = dict(
        version=1,
        grade=grade,
        patients=patients,
        slices=slices,
        size=size,
        seed=seed,
    )
    rows = _plan(patients, slices)
    with building(root, made_by) as new:
        if new:
            _write(root, rows, made_by, workers)
    return dict(
        counts={
            part: sum(row['mode'] == part for row in rows) for part in _PARTS
        },
        clean=sum(row['is_clean'] == 'TRUE' for row in rows),
        new=new,
    )


def _write(root: Path, rows: list[dict], made_by: dict, workers: int) -> None:
    for row in rows:
        for folder in ('Image', 'Mask'):
            place = root / folder / row['patient_id']
            place.mkdir(parents=True, exist_ok=True)
    parallel_map(
        partial(_write_slice, root, made_by), rows, 'drawing slices', workers
    )
    columns = ('patient_id', 'original_image', 'mask_image', 'is_clean')
    with open(root / 'split_dataset.csv', 'w', newline='') as stream:
        writer = csv.DictWriter(
            stream,
            (*columns, 'mode'),
            extrasaction='ignore',
            lineterminator='\n',
        )
        writer.writeheader()
        writer.writerows(rows)


def _plan(patients: int, slices: int) -> list[dict]:
    """One row a slice."""
    ends = np.rint(np.cumsum(list(_PARTS.values())) * patients)
    rows = []
    for patient in range(patients):
        part = list(_PARTS)[int(np.searchsorted(ends, patient, 'right'))]
        for number in range(slices):
            name = f'DEMO_{patient:04d}_{number:02d}'
            clean = (patient + number) % _CLEAN == 0
            rows.append(
                dict(
                    patient_id=f'PATIENT_{patient:04d}',
                    original_image=name,
                    mask_image='' if clean else name,
                    is_clean=str(clean).upper(),
                    mode=part,
                    patient=patient,
                    number=number,
                    clean=clean,
                )
            )
    return rows


def _write_slice(root: Path, made_by: dict, row: dict) -> None:
    from PIL import Image

    seed, patient, number = made_by['seed'], row['patient'], row['number']
    own = np.random.default_rng([seed, 2, patient, number])
    height = None if row['clean'] else own.uniform(-0.8, 0.8)
    pixels, mask = draw_slice(
        GRADES[made_by['grade']],
        made_by['size'],
        np.random.default_rng([seed, 1, patient]),
        own,
        height,
    )
    name = f'{row["patient_id"]}/{row["original_image"]}.png'
    Image.fromarray(pixels).save(root / 'Image' / name)
    if not row['clean']:
        Image.fromarray(mask.astype(np.uint8) * 255).save(root / 'Mask' / name)
