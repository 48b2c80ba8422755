# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Generated CT-like slices with nodules of graded difficulty.

They teach nothing about lungs. A patient has lungs and a nodule whose place,
size and contrast are drawn from the ranges of the grade; the slices go
through it at different heights, each with vessels and noise of its own, and
some hold none of it.
"""

import csv
from functools import partial
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.parallel import parallel_map

from .demo_ct import GRADES, draw_slice
from .demo_folder import building

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
