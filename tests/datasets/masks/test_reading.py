# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The depth of images is kept, masks are class ids."""

import cv2
import numpy as np
import pytest
from PIL import Image

from hkd_mm.datasets.masks.reading import read_mask
from hkd_mm.errors import UserError
from hkd_mm.io.images import read_stored

DEEP = np.array([[0, 1, 255, 256], [300, 4096, 65534, 65535]], np.uint16)


@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_all_16_bits_are_read(tmp_path, suffix):
    path = str(tmp_path / f'a.{suffix}')
    cv2.imwrite(path, DEEP)  # written by someone else than the reader
    found = read_stored(path, 1, 16)
    assert found.dtype == np.uint16 and found.tolist() == DEEP.tolist()


def test_big_endian_is_read(tmp_path):
    path = tmp_path / 'a.tif'
    Image.frombytes('I;16B', (4, 2), DEEP.astype('>u2').tobytes()).save(path)
    assert read_stored(str(path), 1, 16).tolist() == DEEP.tolist()


def test_a_silently_cast_image_is_refused(tmp_path):
    path = str(tmp_path / 'a.png')
    Image.fromarray((DEEP >> 8).astype(np.uint8)).save(path)
    with pytest.raises(UserError, match='8 bits a channel.*it was cast'):
        read_stored(path, 1, 16)


@pytest.mark.parametrize('channels', [1, 3])
def test_16_bits_are_not_cast_to_8(tmp_path, channels):
    path = str(tmp_path / 'a.png')
    Image.fromarray(DEEP).save(path)
    with pytest.raises(UserError, match='would be cast .*bits=16'):
        read_stored(path, channels, 8)


def deep_colours(path):
    """A PNG and a TIFF of 16 bits a channel in colour, as cv2 writes them."""
    cv2 = pytest.importorskip('cv2')
    pixels = np.full((6, 5, 3), 200, np.uint16)
    for suffix in ('.png', '.tiff'):
        yield str(path / f'deep{suffix}')
        assert cv2.imwrite(str(path / f'deep{suffix}'), pixels)


def test_16_bits_in_colour_are_not_cast_to_8(tmp_path):
    names = list(deep_colours(tmp_path))
    for name in names:
        with pytest.raises(UserError, match='would be cast to 8'):
            read_stored(name, 3, 8)
    with pytest.raises(UserError, match='would be cast to 8'):
        read_mask(names[0], 2)


def test_8_bits(tmp_path):
    path = str(tmp_path / 'a.png')
    grey = np.arange(8, dtype=np.uint8).reshape(2, 4)
    Image.fromarray(grey).save(path)
    assert read_stored(path, 1, 8).tolist() == grey.tolist()
    assert read_stored(path, 3, 8).tolist() == np.stack([grey] * 3, -1).tolist()


def test_unreadable_files_are_named(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(b'no image')
    with pytest.raises(UserError, match='image .*a.png cannot be read'):
        read_stored(str(path), 1, 16)
    with pytest.raises(UserError, match='mask .*a.png cannot be read'):
        read_mask(str(path), 2)


@pytest.mark.parametrize(
    'pixels',
    [
        np.array([[0, 65535, 1]], np.uint16),
        np.array([[0, 255, 1]], np.uint8),
        np.array([[False, True, True]]),
        np.array([[[0, 0, 0], [0, 9, 0], [255, 0, 0]]], np.uint8),
        np.array([[[0, 0, 0, 255], [0, 9, 0, 255], [1, 1, 1, 0]]], np.uint8),
    ],
)
def test_binary_masks_are_what_is_above_0(tmp_path, pixels):
    path = str(tmp_path / 'm.png')
    Image.fromarray(pixels).save(path)
    found = read_mask(path, 2)
    assert found.dtype == np.uint8 and found.tolist() == [[0, 1, 1]]


def test_masks_of_classes_are_ids(tmp_path):
    path = str(tmp_path / 'm.png')
    Image.fromarray(np.array([[0, 2, 1, 255]], np.uint8)).save(path)
    assert read_mask(path, 3).tolist() == [[0, 2, 1, 255]]
    palette = Image.fromarray(np.array([[0, 2, 1]], np.uint8))
    palette = palette.convert('L')
    palette.putpalette([0, 0, 0, 9, 9, 9, 255, 0, 0])  # L becomes P
    palette.save(path)
    assert Image.open(path).mode == 'P'
    assert read_mask(path, 3).tolist() == [[0, 2, 1]]


def test_a_value_that_is_no_class_is_refused(tmp_path):
    path = str(tmp_path / 'm.png')
    Image.fromarray(np.array([[0, 3]], np.uint8)).save(path)
    with pytest.raises(UserError, match='the value 3, which is no class'):
        read_mask(path, 3)
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(path)
    with pytest.raises(UserError, match='the value 65535'):
        read_mask(path, 3)
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)
    with pytest.raises(UserError, match='in colour'):
        read_mask(path, 3)


def test_lossy_masks_are_refused(tmp_path):
    path = str(tmp_path / 'm.jpg')
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    with pytest.raises(UserError, match='not exact'):
        read_mask(path, 2)


@pytest.mark.parametrize(
    ('suffix', 'words'),
    [
        ('jpg', {}),
        ('webp', dict(quality=80)),
        ('tif', dict(compression='jpeg')),
        ('tif', dict(compression='webp')),
    ],
)
def test_every_lossy_form_is_refused(tmp_path, suffix, words):
    path = str(tmp_path / f'm.{suffix}')
    grey = np.zeros((16, 16), np.uint8)
    grey[4:9, 4:9] = 255
    try:
        Image.fromarray(np.stack([grey] * 3, -1)).save(path, **words)
    except (OSError, KeyError, RuntimeError) as error:
        pytest.skip(f'this Pillow does not write it: {error}')
    with pytest.raises(UserError, match='not exact; masks must be PNG'):
        read_mask(path, 2)


@pytest.mark.parametrize('compression', [None, 'tiff_lzw', 'tiff_deflate'])
def test_lossless_tiff_is_read(tmp_path, compression):
    path = str(tmp_path / 'm.tif')
    Image.fromarray(np.array([[0, 255, 7]], np.uint8)).save(
        path, compression=compression
    )
    assert read_mask(path, 2).tolist() == [[0, 1, 1]]


def with_palette(path, indices, *colours):
    image = Image.new('P', (len(indices), 1))
    image.putpalette([value for colour in colours for value in colour])
    image.putdata(indices)
    image.save(path)
    assert Image.open(path).mode == 'P'


BLACK, WHITE, GREEN = (0, 0, 0), (255, 255, 255), (0, 200, 0)


def test_a_palette_of_two_classes_is_read_by_its_colours(tmp_path):
    path = str(tmp_path / 'm.png')
    for colours, indices, wanted in (
        ((BLACK, WHITE), [0, 1, 0], [0, 1, 0]),
        ((WHITE, BLACK), [0, 1, 0], [1, 0, 1]),  # as programs sort them
        ((WHITE, BLACK), [1, 1, 1], [0, 0, 0]),
        ((BLACK, WHITE), [1, 1, 1], [1, 1, 1]),
        ((BLACK, (128, 0, 0), (0, 128, 0)), [2, 1, 0], [1, 1, 0]),  # VOC
    ):
        with_palette(path, indices, *colours)
        assert read_mask(path, 2).tolist() == [wanted], colours


@pytest.mark.parametrize(
    ('colours', 'indices'),
    [
        ((WHITE, GREEN), [0, 1]),  # no background
        ((BLACK, BLACK, GREEN), [0, 1]),  # indices say another thing
    ],
)
def test_a_palette_without_a_background_is_refused(tmp_path, colours, indices):
    path = str(tmp_path / 'm.png')
    with_palette(path, indices, *colours)
    with pytest.raises(UserError, match='the background is not known'):
        read_mask(path, 2)
    assert read_mask(path, 3).tolist() == [indices]  # these are ids
