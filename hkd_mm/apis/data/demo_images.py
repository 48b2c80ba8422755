# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Generated lesion-like photographs for trying the tools without a download.

They teach nothing about skin. A lesion has a colour, size, border, texture
and number of spots drawn from ranges of its class that overlap with those of
the others; its photographs share them and differ in pose, light, hair, noise
and sharpness. So a net can learn the classes, but no threshold separates
them.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.parallel import parallel_map

from .demo_drawing import draw_photo
from .demo_folder import building

_PHOTOS = (0.55, 0.27, 0.18)  # share of lesions with 1, 2 and 3 photographs


@dataclass(frozen=True)
class Look:
    """Mean appearance of a class; a lesion scatters around it.

    Args:
        share: of the photographs.
        colour: pigment as RGB that the lesion mixes into the skin.
        strength: how much of it, 0 to 1.
        size: radius in units of half the image.
        ragged: amplitude of the border's harmonics.
        texture: contrast of the inner pattern.
        ring: how much lighter the centre is, 0 to 1.
        spots: mean number of separate spots.
    """

    share: float
    colour: tuple[float, float, float]
    strength: float
    size: float
    ragged: float
    texture: float
    ring: float
    spots: float


LOOKS = dict(
    Acne=Look(0.22, (0.80, 0.27, 0.26), 0.55, 0.18, 0.06, 0.12, 0.06, 4.0),
    Benign=Look(0.36, (0.50, 0.30, 0.20), 0.68, 0.34, 0.05, 0.12, 0.06, 1.0),
    Infectious=Look(
        0.14, (0.78, 0.34, 0.30), 0.58, 0.50, 0.11, 0.22, 0.65, 1.3
    ),
    Malignant=Look(
        0.10, (0.30, 0.20, 0.19), 0.80, 0.50, 0.20, 0.34, 0.10, 1.1
    ),
    Pigment=Look(0.18, (0.58, 0.42, 0.30), 0.44, 0.54, 0.14, 0.16, 0.04, 1.4),
)


def make_demo_images(
    out: str, num: int = 600, size: int = 96, seed: int = 0, workers: int = 0
) -> dict:
    """Write ``num`` photographs and their ``annotations.csv``.

    Args:
        out: data root; made when missing. Nothing is done when it already
            holds this very set.
        num: photographs over all classes.
        size: pixels a side.
        seed: the same seed gives the same photographs.
        workers: processes, 0 for all cores.

    Returns:
        ``images``, ``lesions``, ``counts`` (class -> images) and ``new``
        (False when they were there already).

    Raises:
        UserError: too few or too small images, or ``out`` holds others.
    """
    if num < 10 * len(LOOKS) or size < 16:
        raise UserError(
            f'--num {num} --size {size}: at least '
            f'{10 * len(LOOKS)} images of 16 pixels are needed'
        )
    root = Path(out)
    made_by = dict(version=1, num=num, size=size, seed=seed)
    rows = list(_plan(num, seed))
    with building(root, made_by) as new:
        if new:
            (root / 'images').mkdir(exist_ok=True)
            parallel_map(
                partial(_write_photo, root, size, seed),
                rows,
                'drawing demo images',
                workers,
            )
            _write_table(root, rows)
    return dict(
        images=num,
        counts={
            name: sum(row['label'] == name for row in rows) for name in LOOKS
        },
        lesions=len({row['lesion_id'] for row in rows}),
        new=new,
    )


def _write_table(root: Path, rows: list[dict]) -> None:
    with open(root / 'annotations.csv', 'w', newline='') as stream:
        writer = csv.DictWriter(
            stream,
            ('image', 'label', 'lesion_id', 'age'),
            extrasaction='ignore',
            lineterminator='\n',
        )
        writer.writeheader()
        writer.writerows(rows)


def _plan(num: int, seed: int) -> Iterator[dict]:
    """One row a photograph: class by class, lesion by lesion."""
    rng = np.random.default_rng([seed, 0])
    left = num
    lesion = photo = 0
    for index, (name, look) in enumerate(LOOKS.items()):
        last = index == len(LOOKS) - 1
        wanted = left if last else round(num * look.share)
        left -= wanted
        while wanted:
            lesion += 1
            age = int(rng.integers(18, 85))
            for view in range(min(wanted, int(rng.choice(3, p=_PHOTOS)) + 1)):
                photo += 1
                wanted -= 1
                yield dict(
                    image=f'DEMO_{photo:05d}',
                    label=name,
                    lesion_id=f'LESION_{lesion:05d}',
                    age=age,
                    lesion=lesion,
                    view=view,
                )


def _write_photo(root: Path, size: int, seed: int, row: dict) -> None:
    from PIL import Image

    lesion_rng = np.random.default_rng([seed, 1, row['lesion']])
    photo_rng = np.random.default_rng([seed, 2, row['lesion'], row['view']])
    pixels = draw_photo(LOOKS[row['label']], size, lesion_rng, photo_rng)
    Image.fromarray(pixels).save(
        root / 'images' / f'{row["image"]}.jpg', quality=92
    )
