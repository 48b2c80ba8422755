# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Photographs of every kind become known 8-bit BGR pixels."""

import cv2
import numpy as np
import pytest
from PIL import Image

from hkd_mm.datasets.load_skin_image import LoadSkinImage, read_image
from hkd_mm.errors import UserError

pytestmark = pytest.mark.usefixtures('in_tmp')

RGB = (200, 100, 50)
BGR = [50, 100, 200]


def _read(tmp_path, image, name='a.png', **kwargs):
    image.save(tmp_path / name, **kwargs)
    return read_image(str(tmp_path / name))


def test_rgb_equals_what_opencv_reads(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    found = _read(tmp_path, Image.fromarray(pixels))
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, pixels[..., ::-1])
    np.testing.assert_array_equal(found, cv2.imread(str(tmp_path / 'a.png')))


def test_jpeg_equals_what_opencv_reads(tmp_path):
    line = np.linspace(0, 255, 64, dtype=np.uint8)
    across, down = np.meshgrid(line, line[::-1])
    pixels = np.stack([across, down, across], -1)
    found = _read(tmp_path, Image.fromarray(pixels), 'a.jpg', quality=95)
    other = cv2.imread(str(tmp_path / 'a.jpg'))
    assert np.abs(found.astype(int) - other).max() <= 3


@pytest.mark.parametrize(
    'image, expected',
    [
        (Image.new('L', (3, 2), 77), [77] * 3),
        (Image.new('1', (3, 2), 1), [255] * 3),
        (Image.new('LA', (3, 2), (77, 255)), [77] * 3),
        (Image.new('RGBA', (3, 2), (*RGB, 255)), BGR),
        (Image.new('RGBA', (3, 2), (*RGB, 0)), [255] * 3),
        (Image.new('RGBA', (3, 2), (0, 0, 0, 51)), [204] * 3),
        (Image.new('RGB', (3, 2), RGB).convert('P', palette=1), None),
    ],
)
def test_grey_alpha_and_palette(tmp_path, image, expected):
    found = _read(tmp_path, image)
    assert found.shape == (2, 3, 3)
    if expected is None:
        expected = np.array(image.convert('RGB'))[0, 0, ::-1]
    np.testing.assert_array_equal(found, np.full((2, 3, 3), expected))


def test_transparent_palette_is_laid_over_white(tmp_path):
    image = Image.new('P', (2, 1))
    image.putpalette([*RGB, 0, 0, 0])
    image.putpixel((1, 0), 1)
    found = _read(tmp_path, image, transparency=1)
    assert found.tolist() == [[BGR, [255] * 3]]


def test_cmyk_jpeg(tmp_path):
    found = _read(
        tmp_path,
        Image.new('CMYK', (16, 16), (0, 255, 255, 0)),
        'a.jpg',
        quality=100,
    )
    assert np.abs(found.astype(int) - [0, 0, 255]).max() <= 2


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 65535, 32896]], np.uint16)
    cv2.imwrite(str(tmp_path / 'a.png'), values)
    found = read_image(str(tmp_path / 'a.png'))
    assert found[0, :, 0].tolist() == [0, 1, 255, 128]
    assert (found == found[..., :1]).all()


def test_16_bit_rgb(tmp_path):
    values = np.array([[[0, 25700, 65535]]], np.uint16)
    cv2.imwrite(str(tmp_path / 'a.png'), values)
    assert read_image(str(tmp_path / 'a.png')).tolist() == [[[0, 100, 255]]]


@pytest.mark.parametrize('tag', range(1, 9))
def test_exif_orientation_is_applied(tmp_path, tag):
    upright = np.zeros((24, 16, 3), np.uint8)
    upright[:8, :8] = RGB
    undo = {
        1: None, 2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180,
        4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE, 6: Image.ROTATE_90,
        7: Image.TRANSVERSE, 8: Image.ROTATE_270,
    }[tag]  # fmt: skip
    stored = Image.fromarray(upright)
    stored = stored if undo is None else stored.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = tag
    found = _read(tmp_path, stored, 'a.jpg', exif=exif, quality=100)
    assert found.shape == (24, 16, 3)
    assert np.abs(found[2, 2].astype(int) - BGR).max() <= 3
    assert found[20, 12].max() <= 3


def _damage(path, kind):
    content = path.read_bytes()
    path.write_bytes({
        'empty': b'',
        'text': b'<html>not found</html>',
        'truncated': content[: len(content) // 2],
    }[kind])  # fmt: skip


@pytest.mark.parametrize('kind', ['empty', 'text', 'truncated', 'missing'])
@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_damaged_files_are_named_in_one_line(tmp_path, kind, suffix):
    path = tmp_path / f'broken.{suffix}'
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    if kind == 'missing':
        path.unlink()
    else:
        _damage(path, kind)
    with pytest.raises(UserError) as caught:
        LoadSkinImage().transform(dict(img_path=str(path)))
    message = str(caught.value)
    assert str(path) in message and '\n' not in message
    assert message.count('broken') == 1


def test_floating_point_is_refused(tmp_path):
    Image.new('F', (4, 4), 0.5).save(tmp_path / 'a.tif')
    with pytest.raises(UserError, match='floating-point'):
        read_image(str(tmp_path / 'a.tif'))


def test_the_transform_adds_image_and_shapes(tmp_path, write_image):
    path = write_image(tmp_path / 'a.png', size=10)
    results = LoadSkinImage().transform(dict(img_path=str(path), gt_label=1))
    assert results['img'].shape == (10, 10, 3) and results['gt_label'] == 1
    assert results['img_shape'] == results['ori_shape'] == (10, 10)
