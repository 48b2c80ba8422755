# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Generated lesion-like images for trying the tools without a download.

They teach nothing about skin. A lesion has a colour, size, border, texture
and number of spots drawn from ranges of its class that overlap with those of
the others; its photographs share them and differ in pose, light, hair, noise
and sharpness. So a network can learn the classes, but no threshold separates
them.
"""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import incomplete_marker, mark_incomplete
from hkd_mm.io.progress import parallel_map

_MARK = 'demo.json'
_TOOL = 'the tool of demo images'


@contextmanager
def building(root: Path, made_by: dict) -> Iterator[bool]:
    """Make a data root, or find that it is there.

    Args:
        root: made when missing.
        made_by: settings that decide every pixel.

    Yields:
        Whether the block is to fill it; False where this very set is there.

    Raises:
        UserError: it holds anything else.
    """
    if _holds(root, made_by):
        yield False
        return
    with mark_incomplete(root, _TOOL):
        yield True
        (root / _MARK).write_text(json.dumps(made_by) + '\n')


def _holds(root: Path, made_by: dict) -> bool:
    """Whether this very set is there; refuse to write over anything else."""
    mark = root / _MARK
    if mark.exists():
        if json.loads(mark.read_text()) == made_by:
            return True
        raise UserError(
            f'{root} holds other demo images; remove it or name '
            'another place with --out'
        )
    if (
        root.exists()
        and any(root.iterdir())
        and incomplete_marker(root) != _TOOL
    ):
        raise UserError(
            f'{root} is not empty and holds no demo images; name '
            'another place with --out'
        )
    return False


_SKIN = np.array(
    [
        [0.95, 0.80, 0.70],
        [0.87, 0.68, 0.55],
        [0.74, 0.54, 0.41],
        [0.55, 0.38, 0.29],
    ]
)


def draw_photo(
    look,
    size: int,
    lesion_rng: np.random.Generator,
    photo_rng: np.random.Generator,
) -> np.ndarray:
    """One photograph of one lesion.

    Args:
        look: mean appearance of the class (``demo_images.Look``).
        size: pixels a side.
        lesion_rng: what all photographs of the lesion share.
        photo_rng: what only this photograph has.

    Returns:
        (size, size, 3) uint8 in RGB order.
    """
    skin = _skin_tone(lesion_rng)
    spots = _spots(look, lesion_rng)
    colour = np.clip(
        np.array(look.colour) * skin / _SKIN[1]
        + lesion_rng.normal(0, 0.045)
        + lesion_rng.normal(0, 0.025, 3),
        0.03,
        0.95,
    )
    strength = np.clip(look.strength + lesion_rng.normal(0, 0.10), 0.2, 0.95)
    texture = max(0.03, look.texture + lesion_rng.normal(0, 0.07))
    ring = np.clip(look.ring + lesion_rng.normal(0, 0.13), 0, 0.9)
    pattern_seed = int(lesion_rng.integers(2**31))

    x, y = _camera(size, photo_rng)
    cover, depth = _cover(spots, x, y)
    pattern = _pattern(x, y, np.random.default_rng(pattern_seed))
    amount = cover * strength * (1 + texture * pattern)
    amount *= 1 - ring * np.clip(1 - 1.6 * depth, 0, 1)
    amount = np.clip(amount, 0, 1)[..., None]
    image = skin * (1 + 0.04 * _noise(photo_rng, size, 12)[..., None])
    image = image * (1 - amount) + colour * amount
    image *= _light(x, y, photo_rng)
    image = _hair(image, photo_rng)
    return _sensor(image, photo_rng)


def _skin_tone(rng: np.random.Generator) -> np.ndarray:
    place = rng.beta(1.2, 1.8) * (len(_SKIN) - 1)
    low = min(int(place), len(_SKIN) - 2)
    mixed = _SKIN[low] + (place - low) * (_SKIN[low + 1] - _SKIN[low])
    return np.clip(mixed + rng.normal(0, 0.02, 3), 0, 1)


def _spots(look, rng: np.random.Generator) -> list[dict]:
    number = int(np.clip(rng.poisson(look.spots - 1) + 1, 1, 6))
    shared = np.clip(look.size * np.exp(rng.normal(0, 0.22)), 0.1, 0.8)
    ragged = max(0.01, look.ragged + rng.normal(0, 0.05))
    spots = []
    for index in range(number):
        orders = np.arange(2, 9)
        spots.append(
            dict(
                centre=rng.normal(0, 0.06 if number == 1 else 0.38, 2),
                radius=shared
                * np.exp(rng.normal(0, 0.15 + 0.1 * (index > 0))),
                squeeze=rng.uniform(0.68, 1.0),
                turn=rng.uniform(0, np.pi),
                orders=orders,
                phases=rng.uniform(0, 2 * np.pi, len(orders)),
                sizes=ragged * rng.normal(0, 1.8, len(orders)) / orders**0.8,
                soft=rng.uniform(0.05, 0.28),
            )
        )
    return spots


def _camera(size: int, rng: np.random.Generator):
    """Scene coordinates of the pixels: turned, mirrored, zoomed, shifted."""
    line = (np.arange(size) + 0.5) / size * 2 - 1
    u, v = np.meshgrid(line, line)
    u = u * rng.choice((-1, 1))
    angle, zoom = rng.uniform(0, 2 * np.pi), np.exp(rng.normal(0, 0.14))
    shift = rng.normal(0, 0.08, 2)
    x = (np.cos(angle) * u - np.sin(angle) * v) / zoom + shift[0]
    y = (np.sin(angle) * u + np.cos(angle) * v) / zoom + shift[1]
    return x, y


def _cover(spots: list[dict], x: np.ndarray, y: np.ndarray):
    """Coverage in [0, 1] and relative distance from the nearest centre."""
    cover, depth = np.zeros_like(x), np.full_like(x, 9.0)
    for spot in spots:
        dx, dy = x - spot['centre'][0], y - spot['centre'][1]
        cos, sin = np.cos(spot['turn']), np.sin(spot['turn'])
        a, b = cos * dx + sin * dy, (cos * dy - sin * dx) / spot['squeeze']
        theta = np.arctan2(b, a)
        edge = 1 + sum(
            s * np.cos(k * theta + p)
            for k, p, s in zip(spot['orders'], spot['phases'], spot['sizes'])
        )
        relative = np.hypot(a, b) / (spot['radius'] * np.maximum(edge, 0.35))
        inside = 1 / (
            1 + np.exp(np.clip((relative - 1) / spot['soft'] * 4, -30, 30))
        )
        cover = np.maximum(cover, inside)
        depth = np.minimum(depth, relative)
    return cover, depth


def _pattern(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A pattern fixed to the lesion: waves in random directions."""
    pattern = np.zeros_like(x)
    for _ in range(6):
        angle, wave = rng.uniform(0, np.pi), rng.uniform(3, 15)
        pattern += np.sin(
            wave * (np.cos(angle) * x + np.sin(angle) * y)
            + rng.uniform(0, 2 * np.pi)
        )
    return pattern / 2


def _noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    grid = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)


def _light(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Exposure, slope, vignette and white balance."""
    angle = rng.uniform(0, 2 * np.pi)
    slope = 1 + rng.uniform(0, 0.15) * (np.cos(angle) * x + np.sin(angle) * y)
    radius = np.hypot(*(np.meshgrid(*[np.linspace(-1, 1, len(x))] * 2)))
    vignette = 1 - rng.uniform(0, 0.35) * np.clip(radius - 0.5, 0, 1)
    balance = 1 + rng.normal(0, 0.035, 3)
    exposure = np.exp(rng.normal(0, 0.10))
    return exposure * (slope * vignette)[..., None] * balance


def _hair(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.65:
        return image
    size = len(image)
    mask = np.zeros((size * 2, size * 2), np.uint8)
    for _ in range(rng.integers(2, 10)):
        start, end = rng.uniform(0, 2 * size, (2, 2))
        bend = (start + end) / 2 + rng.normal(0, size * 0.2, 2)
        t = np.linspace(0, 1, 16)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        cv2.polylines(
            mask,
            [np.int32(curve)],
            False,
            255,
            max(1, size // 64),
            cv2.LINE_AA,
        )
    cover = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA)
    cover = cover[..., None] / 255.0 * rng.uniform(0.5, 0.95)
    return image * (1 - cover) + np.array([0.16, 0.11, 0.08]) * cover


def _sensor(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, noise and rounding to 8 bits."""
    blur = rng.uniform(0, 0.012) * len(image)
    if blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    image = image + rng.normal(0, rng.uniform(0.004, 0.03), image.shape)
    return np.uint8(np.clip(np.rint(image * 255), 0, 255))


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
