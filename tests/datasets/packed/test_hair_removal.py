# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hairs go, lesions stay, and a store says which it holds."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hkd_mm.datasets.packed.hair_removal import (
    hair_settings,
    remove_hair,
    remove_hair_for,
)
from hkd_mm.datasets.packed.plan import make_plan, pack_image
from hkd_mm.datasets.records import Record
from hkd_mm.errors import UserError

SIZES = [(300, 400), (400, 300)]


def lay(image, colour, draw, *args):
    """Something of one colour over a float image, with soft edges."""
    cover = np.zeros(image.shape[:2], np.uint8)
    draw(cover, *args)
    cover = cv2.GaussianBlur(cover, (0, 0), 0.8)[..., None] / 255
    return image * (1 - cover) + np.array(colour) * cover


def lesion(size, seed=0):
    """A pigmented spot with texture, noise and a dozen dots: float RGB."""
    rng, (height, width) = np.random.default_rng(seed), size
    y, x = np.mgrid[:height, :width]
    x, y = (x / width - 0.5) / 0.24, (y / height - 0.52) / 0.27
    edge = np.hypot(x, y) + 0.1 * np.sin(5 * np.arctan2(y, x)) - 1
    inside = 1 / (1 + np.exp(14 * edge))[..., None]
    image = (1 - inside) * (205.0, 160.0, 140.0)
    image += inside * (115.0, 75.0, 60.0) + x[..., None]
    texture = cv2.GaussianBlur(rng.normal(size=size), (0, 0), height / 75)
    image += 7 * (texture / texture.std())[..., None] * inside
    for angle, far in rng.uniform(0, 1, (12, 2)) * (6.28, 0.7):
        place = (
            int(width * (0.5 + 0.2 * far * np.cos(angle))),
            int(height * (0.52 + 0.2 * far * np.sin(angle))),
        )
        image = lay(
            image,
            (70.0, 45.0, 40.0),
            cv2.circle,
            place,
            height // 90,
            255,
            -1,
        )
    return image + 6 * cv2.GaussianBlur(rng.normal(size=image.shape), (0, 0), 1)


def with_hairs(image, count=14, seed=1):
    """Curved dark lines of 1 to some 5 pixels."""
    rng, (height, width) = np.random.default_rng(seed), image.shape[:2]
    t = np.linspace(0, 1, 60)[:, None]
    for _ in range(count):
        start, end = rng.uniform(0, 1, (2, 2)) * (width, height)
        bend = (start + end) / 2 + rng.normal(size=2) * height * 0.12
        line = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        thick = int(rng.integers(1, height // 110 + 1))
        image = lay(
            image,
            rng.uniform(20, 55) * np.array([1, 0.8, 0.7]),
            cv2.polylines,
            [line.round().astype(np.int32)],
            False,
            255,
            thick,
        )
    return image


def pixels(image):
    return image.clip(0, 255).round().astype(np.uint8)


def small(image):
    """As a network would see it."""
    image = cv2.resize(image, (116, 116), interpolation=cv2.INTER_AREA)
    return image.astype(float)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('seed', [0, 1])
def test_a_hairy_image_comes_back_as_the_one_without(size, seed):
    clean = lesion(size, seed)
    hairy = pixels(with_hairs(clean, seed=seed + 5))
    clean = pixels(clean)
    before = hairy.copy()
    found = remove_hair(hairy)
    assert found.dtype == np.uint8 and found.shape == hairy.shape
    assert (hairy == before).all()
    worse = np.abs(small(hairy) - small(clean))
    left = np.abs(small(found) - small(clean))
    assert worse.mean() > 4 and worse.max() > 120
    assert left.mean() < 0.6 and left.mean() < worse.mean() / 12
    assert (left.max(-1) > 30).mean() < 0.004  # of 116 x 116


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('seed', [0, 1])
def test_an_image_without_hairs_stays(size, seed):
    clean = pixels(lesion(size, seed))
    found = remove_hair(clean)
    assert (found != clean).any(-1).mean() < 0.005
    assert np.abs(small(found) - small(clean)).mean() < 0.1
    assert not np.shares_memory(found, clean)


def test_dots_stay_unless_their_length_is_asked_for():
    clean = pixels(lesion((300, 400)))
    assert (remove_hair(clean) == clean).all()
    found = remove_hair(clean, length=0)
    dots = (found != clean).any(-1)
    assert dots.mean() > 0.001
    assert found[dots].mean() > clean[dots].mean() + 8


def test_each_setting_does_what_it_says():
    stripes = np.full((200, 300, 3), 150, np.uint8)
    stripes[20:23] = 130  # 20 levels, 3 pixels
    stripes[100:120] = 60  # 20 pixels
    stripes[160:163, 50:65] = 60  # 15 pixels long
    rows = (20, 21, 22), range(105, 115), (160, 161, 162)

    def gone(**settings):
        found = remove_hair(stripes, **settings).astype(int)
        return [
            bool((abs(found[list(part)][:, 52:63] - 150) < 5).all()) for part in rows
        ]

    assert gone() == [True, False, False]
    assert gone(threshold=21) == [False, False, False]
    assert gone(kernel=0.15) == [True, True, False]
    assert gone(length=0.05) == [True, False, True]
    one, two = (remove_hair(stripes, radius=r) for r in (1, 20))
    hair = slice(19, 24)  # with its rim
    assert (np.delete(one, hair, 0) == np.delete(stripes, hair, 0)).all()
    assert (np.delete(two, hair, 0) == np.delete(stripes, hair, 0)).all()


def test_a_large_photograph_is_reduced_before_hairs_are_sought():
    image = np.full((1100, 2200, 3), 150, np.uint8)
    settings = hair_settings(True)
    assert remove_hair_for(image, 116, settings).shape == (1024, 2048, 3)
    assert remove_hair_for(image, 540, settings).shape == (1080, 2160, 3)
    assert remove_hair_for(image, 600, settings).shape == image.shape
    assert remove_hair_for(image[:9, :5], 600, settings).shape == (9, 5, 3)


def test_packing_removes_hairs_before_the_resize(tmp_path):
    clean, path = lesion((300, 400)), tmp_path / 'a.png'
    Image.fromarray(pixels(with_hairs(clean))).save(path)
    found = pack_image(str(path), 48, 'area', hair_settings(True))
    wanted = cv2.resize(
        remove_hair(pixels(with_hairs(clean))),
        (48, 48),
        interpolation=cv2.INTER_AREA,
    )
    assert (found == wanted).all()  # RGB all the way
    plain = pack_image(str(path), 48, 'area')
    wanted = cv2.resize(pixels(clean), (48, 48), interpolation=cv2.INTER_AREA)
    left, there = (
        np.abs(image.astype(float) - wanted).mean() for image in (found, plain)
    )
    assert there > 3 and left < there / 10


def test_stores_with_and_without_are_two(packed, packed_root, tmp_path):
    image = Image.fromarray(pixels(with_hairs(lesion((225, 300)))))
    image.save(packed_root / 'Acne' / 'hairy.png')
    plain = packed(size=32).store
    off = packed(size=32, hair_removal=False).store
    on = packed(size=32, hair_removal=True).store
    other = packed(size=32, hair_removal=dict(threshold=30)).store
    same = packed(size=32, hair_removal=dict(threshold=15)).store
    assert off is plain and same is on
    assert len({plain.folder, on.folder, other.folder}) == 3
    assert len({plain.hash, on.hash, other.hash}) == 3
    (row,) = (i for i, name in enumerate(on.ids) if 'hairy' in name)
    assert not (on.pixels[row] == plain.pixels[row]).all()
    assert json.loads((on.folder / 'header.json').read_text())['hair_removal'] == dict(
        hair_settings(True), version=1
    )


def test_another_hair_removal_is_no_change_of_the_images(packed, capfd):
    packed()
    packed(hair_removal=True)
    packed(hair_removal=dict(threshold=30))
    assert 'HAVE CHANGED' not in capfd.readouterr().err


def test_off_is_what_it_was_before_there_was_the_word(packed_root):
    records = [Record(p.stem, str(p), '') for p in packed_root.rglob('*.png')]
    plan = make_plan(str(packed_root), records, 16)
    assert plan.rule == dict(version=1, side=16, interpolation='area')
    assert plan.family == 'data_16'
    assert plan == make_plan(str(packed_root), records, 16, 'area', False)


@pytest.mark.parametrize(
    'word, said',
    [
        ('yes', "packed.hair_removal: .* not 'yes'"),
        (dict(kernal=0.1), 'kernal is no known key; did you mean kernel'),
        (dict(kernel=0), 'hair_removal: kernel: .* greater than 0'),
        (dict(threshold=300), 'threshold: .* 255, not 300'),
        (dict(length=-1), 'length: .* not -1'),
        (dict(radius='3'), "radius: .* not '3'"),
        (dict(radius=True), 'radius: .* not True'),
    ],
)
def test_bad_words_are_named(packed, word, said):
    with pytest.raises(UserError, match=said):
        packed(hair_removal=word)
    assert not Path('work_dirs/packed').exists()
