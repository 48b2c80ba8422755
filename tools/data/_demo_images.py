# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Draw lesion-like images for trying the tools without a download.

They teach nothing about skin. A lesion has a colour, size, border, texture
and number of spots drawn from ranges of its class that overlap with those of
the others; its images share them and differ in pose, light and noise. So a
network can learn the classes, but no threshold separates them.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
from numpy.random import Generator, default_rng
from pydantic import Field
from typing_extensions import TypedDict

from hkd_mm.data_tools.source import check_out
from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import incomplete_marker, mark_incomplete
from hkd_mm.io.files import read_record
from hkd_mm.io.progress import check_workers, parallel_map
from hkd_mm.io.schema import validate
from hkd_mm.io.tables import write_table

_MARK = 'demo.json'
_TOOL = 'the tool of demo images'
_VIEWS = (0.55, 0.27, 0.18)  # share of lesions with 1, 2 and 3 images
_SKIN = np.array(
    [[0.95, 0.80, 0.70], [0.87, 0.68, 0.55], [0.74, 0.54, 0.41], [0.55, 0.38, 0.29]]
)


class Look(NamedTuple):
    """Mean appearance of a class; a lesion scatters around it."""

    share: float  # of the images
    colour: tuple[float, float, float]  # RGB that the lesion mixes into the skin
    strength: float  # of that pigment, 0 to 1
    size: float  # radius in units of half the image
    ragged: float  # amplitude of the border's harmonics
    texture: float  # contrast of the inner pattern
    ring: float  # lightness of the centre, 0 to 1
    spots: float  # mean number of separate spots


LOOKS = dict(
    Acne=Look(0.22, (0.80, 0.27, 0.26), 0.55, 0.18, 0.06, 0.12, 0.06, 4.0),
    Benign=Look(0.36, (0.50, 0.30, 0.20), 0.68, 0.34, 0.05, 0.12, 0.06, 1.0),
    Infectious=Look(0.14, (0.78, 0.34, 0.30), 0.58, 0.50, 0.11, 0.22, 0.65, 1.3),
    Malignant=Look(0.10, (0.30, 0.20, 0.19), 0.80, 0.50, 0.20, 0.34, 0.10, 1.1),
    Pigment=Look(0.18, (0.58, 0.42, 0.30), 0.44, 0.54, 0.14, 0.16, 0.04, 1.4),
)


class _Options(TypedDict):
    num: Annotated[int, Field(ge=10 * len(LOOKS), le=1_000_000)]
    size: Annotated[int, Field(ge=16, le=4096)]
    seed: Annotated[int, Field(ge=0)]


def make_demo_images(
    out: str, num: int = 600, size: int = 96, seed: int = 0, workers: int = 0
) -> dict:
    """Write ``num`` images of ``size`` pixels a side and their ``annotations.csv``.

    Returned are ``images``, ``lesions``, ``counts`` (class -> images) and ``new``
    (False when this very set was there already).
    """
    check_workers(workers)
    options = dict(num=num, size=size, seed=seed)
    validate(_Options, options, 'make_demo_images')
    root, made_by = Path(out), dict(version=2, **options)
    rows = list(_plan(num, seed))
    with building(root, made_by) as new:
        if new:
            (root / 'images').mkdir(exist_ok=True)
            draw = partial(_write_image, root, size, seed)
            parallel_map(draw, rows, 'drawing demo images', workers)
            columns = ('image', 'label', 'lesion_id', 'age')
            cells = map(itemgetter(*columns), rows)
            write_table(root / 'annotations.csv', columns, cells)
    return dict(
        images=num,
        counts=dict(Counter(row['label'] for row in rows)),
        lesions=len({row['lesion_id'] for row in rows}),
        new=new,
    )


@contextmanager
def building(root: Path, made_by: dict) -> Iterator[bool]:
    """Make a data root by settings that decide every pixel; yield whether it is new."""
    mark = root / _MARK
    if mark.exists():
        if read_record(mark) != made_by:
            raise UserError(
                f'{root} holds other demo images; remove it or name another '
                'place with --out'
            )
        yield False
        return
    check_out(root)
    if root.exists() and any(root.iterdir()) and incomplete_marker(root) != _TOOL:
        raise UserError(
            f'{root} is not empty and holds no demo images; name another '
            'place with --out'
        )
    with mark_incomplete(root, _TOOL):
        yield True
        mark.write_text(json.dumps(made_by) + '\n')


def _plan(num: int, seed: int) -> Iterator[dict]:
    """One row an image: class by class, lesion by lesion."""
    rng = default_rng([seed, 0])
    left, lesion, image = num, 0, 0
    for name, look in LOOKS.items():
        last = name == [*LOOKS][-1]
        wanted = left if last else round(num * look.share)
        left -= wanted
        while wanted:
            lesion += 1
            age = int(rng.integers(18, 85))
            for view in range(min(wanted, int(rng.choice(3, p=_VIEWS)) + 1)):
                image += 1
                wanted -= 1
                names = dict(image=f'DEMO_{image:05d}', label=name)
                yield dict(names, lesion_id=f'LESION_{lesion:05d}', age=age,
                           lesion=lesion, view=view)  # fmt: skip


def _write_image(root: Path, size: int, seed: int, row: dict) -> None:
    from PIL import Image

    pixels = draw_image(
        LOOKS[row['label']],
        size,
        default_rng([seed, 1, row['lesion']]),
        default_rng([seed, 2, row['lesion'], row['view']]),
    )
    path = root / 'images' / f'{row["image"]}.jpg'
    Image.fromarray(pixels).save(path, quality=92)


def draw_image(
    look: Look, size: int, lesion_rng: Generator, image_rng: Generator
) -> np.ndarray:
    """Draw one image of one lesion, (size, size, 3) uint8 in RGB order.

    ``lesion_rng`` draws what all images of the lesion share.
    """
    tone = lesion_rng.beta(1.2, 1.8) * (len(_SKIN) - 1)
    skin = [np.interp(tone, range(len(_SKIN)), c) for c in _SKIN.T]
    skin = np.clip(skin + lesion_rng.normal(0, 0.02, 3), 0, 1)
    spots = _spots(look, lesion_rng)
    scatter = lesion_rng.normal(0, 0.045) + lesion_rng.normal(0, 0.025, 3)
    colour = np.array(look.colour) * skin / _SKIN[1] + scatter
    colour = np.clip(colour, 0.03, 0.95)
    strength = np.clip(look.strength + lesion_rng.normal(0, 0.10), 0.2, 0.95)
    texture = max(0.03, look.texture + lesion_rng.normal(0, 0.07))
    ring = np.clip(look.ring + lesion_rng.normal(0, 0.13), 0, 0.9)

    x, y = _camera(size, image_rng)
    cover, depth = _cover(spots, x, y)
    pattern = np.zeros_like(x)  # waves in random directions, fixed to the lesion
    for _ in range(6):
        angle, wave = lesion_rng.uniform(0, np.pi), lesion_rng.uniform(3, 15)
        along = np.cos(angle) * x + np.sin(angle) * y
        pattern += np.sin(wave * along + lesion_rng.uniform(0, 2 * np.pi))
    amount = cover * strength * (1 + texture * (pattern / 2))
    amount *= 1 - ring * np.clip(1 - 1.6 * depth, 0, 1)
    amount = np.clip(amount, 0, 1)[..., None]
    cells = image_rng.normal(0, 0.04, (12, 12)).astype(np.float32)
    uneven = cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC)
    image = skin * (1 + uneven[..., None]) * (1 - amount) + colour * amount
    image = image * np.exp(image_rng.normal(0, 0.10))  # exposure
    image = image * (1 + image_rng.normal(0, 0.035, 3))  # white balance
    sigma = image_rng.uniform(0.004, 0.03)
    image = image + image_rng.normal(0, sigma, image.shape)
    return np.uint8(np.clip(np.rint(image * 255), 0, 255))


def _spots(look: Look, rng: Generator) -> list[dict]:
    number = int(np.clip(rng.poisson(look.spots - 1) + 1, 1, 6))
    size = np.clip(look.size * np.exp(rng.normal(0, 0.22)), 0.1, 0.8)
    ragged = max(0.01, look.ragged + rng.normal(0, 0.05))
    orders = np.arange(2, 9)
    return [
        dict(
            centre=rng.normal(0, 0.06 if number == 1 else 0.38, 2),
            radius=size * np.exp(rng.normal(0, 0.15 + 0.1 * (index > 0))),
            squeeze=rng.uniform(0.68, 1.0),
            turn=rng.uniform(0, np.pi),
            orders=orders,
            phases=rng.uniform(0, 2 * np.pi, len(orders)),
            sizes=ragged * rng.normal(0, 1.8, len(orders)) / orders**0.8,
            soft=rng.uniform(0.05, 0.28),
        )
        for index in range(number)
    ]


def _camera(size: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scene coordinates of the pixels: turned, mirrored, zoomed, shifted."""
    line = (np.arange(size) + 0.5) / size * 2 - 1
    u, v = np.meshgrid(line * rng.choice((-1, 1)), line)
    angle, zoom = rng.uniform(0, 2 * np.pi), np.exp(rng.normal(0, 0.14))
    x, y = rng.normal(0, 0.08, 2)
    x = (np.cos(angle) * u - np.sin(angle) * v) / zoom + x
    y = (np.sin(angle) * u + np.cos(angle) * v) / zoom + y
    return x, y


def _cover(
    spots: list[dict], x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage in [0, 1] and relative distance from the nearest centre."""
    cover, depth = np.zeros_like(x), np.full_like(x, 9.0)
    for spot in spots:
        dx, dy = x - spot['centre'][0], y - spot['centre'][1]
        cos, sin = np.cos(spot['turn']), np.sin(spot['turn'])
        a, b = cos * dx + sin * dy, (cos * dy - sin * dx) / spot['squeeze']
        angle = np.arctan2(b, a)
        edge = 1 + sum(
            s * np.cos(k * angle + p)
            for k, p, s in zip(spot['orders'], spot['phases'], spot['sizes'])
        )
        relative = np.hypot(a, b) / (spot['radius'] * np.maximum(edge, 0.35))
        sharp = np.clip((relative - 1) / spot['soft'] * 4, -30, 30)
        cover = np.maximum(cover, 1 / (1 + np.exp(sharp)))
        depth = np.minimum(depth, relative)
    return cover, depth
