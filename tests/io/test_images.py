# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Photographs of every kind, as a path, bytes, an image or an array."""

import io
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from hkd_mm.errors import UserError
from hkd_mm.io import images
from hkd_mm.io.images import prepare, read_rgb, read_stored
from hkd_mm.io.input_spec import InputSpec


def _png(image: Image.Image, **kwargs) -> bytes:
    stream = io.BytesIO()
    image.save(stream, 'PNG', **kwargs)
    return stream.getvalue()


def test_all_kinds_of_sources_give_the_same_pixels(tmp_path, noise):
    pixels = noise(1, 9, 7)
    image = Image.fromarray(pixels)
    content = _png(image)
    (tmp_path / 'a.png').write_bytes(content)
    for source in (
        tmp_path / 'a.png',
        str(tmp_path / 'a.png'),
        content,
        bytearray(content),
        memoryview(content),
        image,
        pixels,
        np.asfortranarray(pixels),
    ):
        found = read_rgb(source)
        np.testing.assert_array_equal(found, pixels)
        assert found.dtype == np.uint8 and found.flags.c_contiguous


def test_grey_alpha_16_bit_and_palette():
    grey = np.uint8([[7, 200]])
    three = np.repeat(grey[..., None], 3, -1)
    np.testing.assert_array_equal(read_rgb(grey), three)
    np.testing.assert_array_equal(read_rgb(_png(Image.fromarray(grey))), three)
    half = Image.new('RGBA', (1, 1), (0, 0, 0, 51))
    assert read_rgb(half).tolist() == [[[204] * 3]]
    deep = Image.fromarray(np.uint16([[0, 257, 65535]]))
    assert read_rgb(_png(deep))[0, :, 0].tolist() == [0, 1, 255]
    palette = Image.new('RGB', (2, 2), (200, 100, 50)).convert('P', palette=1)
    assert read_rgb(palette).tolist() == (np.asarray(palette.convert('RGB')).tolist())


def test_cmyk_from_bytes():
    stream = io.BytesIO()
    Image.new('CMYK', (16, 16), (0, 255, 255, 0)).save(stream, 'JPEG', quality=100)
    found = read_rgb(stream.getvalue())
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 2


@pytest.mark.parametrize('kind', ['bytes', 'image'])
def test_exif_orientation_is_applied(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    content = _png(Image.fromarray(np.uint8([[10, 20, 30]])), exif=exif)
    source = content if kind == 'bytes' else Image.open(io.BytesIO(content))
    assert read_rgb(source)[..., 0].tolist() == [[10], [20], [30]]


@pytest.mark.parametrize(
    'source, word',
    [
        (np.zeros((4, 4, 3)), 'uint8'),
        (np.zeros((4, 4, 4), np.uint8), r'\(4, 4, 4\)'),
        (np.zeros((0, 4, 3), np.uint8), r'\(0, 4, 3\)'),
        (b'', 'cannot identify'),
        (b'<html>', 'cannot identify'),
        (None, 'NoneType'),
        (3, 'int'),
        (Image.new('F', (2, 2)), 'floating-point'),
    ],
)
def test_what_is_no_photograph_is_refused_in_one_line(source, word):
    with pytest.raises(UserError, match=word) as caught:
        read_rgb(source)
    assert '\n' not in str(caught.value) and '0x' not in str(caught.value)


@pytest.mark.parametrize('content', [b'', b'text', None])
def test_a_bad_file_is_named_once(tmp_path, content, noise):
    path = tmp_path / 'broken.png'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_rgb(path)
    message = str(caught.value)
    assert message.startswith(f'image {path} cannot be read (')
    assert message.count('broken') == 1


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('kind', ['EPS', 'GIF', 'PPM', 'ICO', 'PDF'])
def test_other_formats_are_refused_whatever_their_name(
    tmp_path, kind, suffix, monkeypatch
):
    """Pillow would start Ghostscript for an EPS."""
    from PIL import EpsImagePlugin

    from hkd_mm.datasets.load_skin_image import read_image

    monkeypatch.setattr(
        EpsImagePlugin,
        'Ghostscript',
        lambda *args, **words: pytest.fail('Ghostscript was started'),
    )
    path = tmp_path / f'a{suffix}'
    Image.new('RGB', (16, 16), 'red').save(path, kind)
    for source in (path, path.read_bytes()):
        with pytest.raises(UserError, match='cannot identify'):
            read_rgb(source)
    with pytest.raises(UserError, match='cannot identify'):
        read_image(str(path))


@pytest.mark.parametrize('kind', ['JPEG', 'MPO', 'PNG', 'WEBP', 'BMP', 'TIFF'])
def test_formats_of_photographs_are_read(tmp_path, kind):
    from hkd_mm.datasets.load_skin_image import read_image

    path, red = tmp_path / 'a.bin', Image.new('RGB', (16, 16), (250, 5, 5))
    more = dict(save_all=True, append_images=[red]) if kind == 'MPO' else {}
    red.save(path, kind, **more)
    with Image.open(path) as image:
        assert image.format == kind
    found = read_rgb(path)
    assert np.abs(found.astype(int) - (250, 5, 5)).max() <= 5
    assert (read_image(str(path))[..., ::-1] == found).all()


@pytest.mark.parametrize('kind', [np.uint16, np.int32])
def test_every_value_of_16_bits_is_rounded(kind):
    values = np.arange(65536).reshape(256, 256)
    image = Image.fromarray(values.astype(kind))
    np.testing.assert_array_equal(read_rgb(image)[..., 1], np.floor(values / 257 + 0.5))
    for wrong in (-1, 65536):
        beyond = Image.fromarray(np.full((2, 2), wrong, np.int32))
        with pytest.raises(UserError, match='16 bits'):
            read_rgb(beyond)


def test_a_file_cut_off_is_refused(tmp_path, noise):
    content = _png(Image.fromarray(noise(0, 64, 64)))
    with pytest.raises(UserError, match='cannot be read'):
        read_rgb(content[: len(content) // 2])


def test_more_pixels_than_allowed_are_not_unpacked(monkeypatch, noise):
    """100 million pixels of one colour are a file of 100 kB."""
    bomb = _png(Image.new('1', (11_000, 10_000)))
    assert len(bomb) < 100_000
    monkeypatch.setattr(Image.Image, 'load', lambda self: pytest.fail('unpacked'))
    with pytest.warns(Image.DecompressionBombWarning):
        with pytest.raises(UserError, match='11000 x 10000 pixels'):
            read_rgb(bomb)
    with pytest.raises(UserError, match='more than the 99'):
        read_rgb(noise(0, 10, 10), max_pixels=99)
    assert read_rgb(noise(0, 10, 10), max_pixels=100).shape == (10, 10, 3)


@pytest.mark.parametrize('shape', [(40, 30), (8, 6), (5, 4), (8, 50)])
def test_prepared_as_in_training(shape, noise):
    spec = InputSpec((8, 6), 'area', 'RGB', (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    pixels = noise(2, *shape)
    small = cv2.resize(pixels, (6, 8), interpolation=cv2.INTER_AREA)
    found = prepare(pixels, spec)
    assert found.dtype == np.float32 and found.shape == (3, 8, 6)
    for channel in range(3):
        naive = (small[..., channel].astype(float) - spec.mean[channel]) / (
            spec.std[channel]
        )
        np.testing.assert_allclose(found[channel], naive, rtol=1e-6)


def _exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Of tag, type, count and value: two bytes for the short, four else."""
    fields = b''.join(
        struct.pack('<HHI', tag, kind, count) + value.ljust(4, b'\0')
        for tag, kind, count, value in entries
    )
    head = b'II*\0' + struct.pack('<IH', 8, len(entries))
    return b'Exif\0\0' + head + fields + bytes(4)


_TURNED = (0x112, 3, 1, struct.pack('<H', 6))  # stored lying on its side
_TEXT = (0x11A, 2, 4, b'abc\0')  # XResolution, which is a fraction


@pytest.mark.parametrize('kind', ['JPEG', 'WEBP', 'PNG'])
def test_odd_exif_does_not_matter(tmp_path, kind):
    from hkd_mm.datasets.load_skin_image import read_image

    path = tmp_path / 'a.jpg'
    grey = np.full((16, 32), 250, np.uint8)
    grey[:, 16:] = 10
    Image.fromarray(grey).convert('RGB').save(
        path, kind, exif=_exif(_TURNED, _TEXT), quality=100
    )
    with Image.open(path) as image, pytest.raises(TypeError):
        ImageOps.exif_transpose(image)  # Pillow's own way
    for found in (read_rgb(path), read_image(str(path))):
        assert found.shape == (32, 16, 3)
        assert found[:12].min() > 200 and found[-12:].max() < 60
    stored = read_stored(path, 3, 8)
    assert stored.shape == (32, 16, 3)


def test_a_negative_fraction_does_not_matter(tmp_path):
    path = tmp_path / 'a.jpg'
    place = struct.pack('<I', 8 + 2 + 2 * 12 + 4)
    exif = _exif(_TURNED, (0x11A, 10, 1, place)) + struct.pack('<ii', -1, 2)
    Image.new('RGB', (32, 16), 'red').save(path, exif=exif)
    with Image.open(path) as image, pytest.raises(struct.error):
        ImageOps.exif_transpose(image)
    assert read_rgb(path).shape == (32, 16, 3)


@pytest.mark.parametrize('kind', [2, 11])  # text, a fraction
def test_a_tiff_with_odd_tags_is_refused_in_one_line(tmp_path, kind):
    from hkd_mm.datasets.load_skin_image import read_image

    path = tmp_path / 'a.tif'
    Image.new('RGB', (32, 16), 'red').save(path)
    head, entry, rest = path.read_bytes().partition(
        struct.pack('<HH', 0x111, 4)  # where the pixels are
    )
    assert entry
    path.write_bytes(head + struct.pack('<HH', 0x111, kind) + rest)
    with Image.open(path) as image, pytest.raises(TypeError):
        image.load()
    for read in (read_rgb, lambda path: read_image(str(path))):
        with pytest.raises(UserError, match='cannot be read') as told:
            read(path)
        assert '\n' not in str(told.value)


def _heic(tmp_path, **kwargs):
    pillow_heif = pytest.importorskip('pillow_heif')
    pillow_heif.register_heif_opener()
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :16] = 250
    path = tmp_path / 'a.heic'
    Image.fromarray(pixels).save(path, 'HEIF', quality=100, **kwargs)
    return path


def test_heic_is_read(tmp_path):
    from hkd_mm.datasets.load_skin_image import read_image

    path = _heic(tmp_path)
    for found in (
        read_rgb(path),
        read_rgb(path.read_bytes()),
        read_stored(path, 3, 8),
        read_image(str(path)),
    ):
        assert found.shape == (32, 48, 3)
        assert found[:12, :12].min() > 240 and found[20:].max() < 10


@pytest.mark.parametrize('tag', range(1, 9))
def test_a_heic_is_turned_once(tmp_path, tag):
    """Its own rotation counts, and the copy of it in EXIF is not applied again."""
    pillow_heif = pytest.importorskip('pillow_heif')
    exif = Image.Exif()
    exif[0x0112] = tag
    path = _heic(tmp_path, exif=exif.tobytes())
    expected = pillow_heif.open_heif(path).to_pillow()
    found = read_rgb(path)
    assert (found == np.asarray(expected.convert('RGB'))).all()
    jpeg = tmp_path / 'a.jpg'
    with pillow_heif.open_heif(path).to_pillow() as image:
        image.save(jpeg, quality=100, exif=image.info.get('exif') or b'')
    assert np.abs(read_rgb(jpeg).astype(int) - found).max() < 12


def test_heic_without_its_package_names_it(tmp_path, monkeypatch):
    import sys

    from hkd_mm.io import images

    path = _heic(tmp_path)
    images._register_heif.cache_clear()
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    with pytest.raises(UserError, match='pip install pillow-heif') as told:
        read_rgb(path)
    assert '\n' not in str(told.value)


def test_what_never_ends_is_refused_at_once(tmp_path):
    import os
    import socket

    from hkd_mm.datasets.load_skin_image import read_image

    os.mkfifo(tmp_path / 'pipe.png')
    with socket.socket(socket.AF_UNIX) as server:
        short = os.path.relpath(tmp_path / 's.png')
        server.bind(short if len(short) < 100 else str(tmp_path / 's.png'))
        for path in ('/dev/zero', tmp_path / 'pipe.png', tmp_path / 's.png'):
            for read in (read_rgb, lambda path: read_image(str(path))):
                with pytest.raises(UserError, match='a FIFO, device or socket'):
                    read(path)
    for path in ('/proc/self/status', '/proc/kmsg'):
        with pytest.raises(UserError, match='the file is empty'):
            read_rgb(path)


@pytest.mark.parametrize('limit', [0, -5])
def test_a_limit_below_one_pixel_is_refused(limit, noise):
    for read in (read_rgb, lambda x, n: read_stored(x, 3, 8, n)):
        with pytest.raises(UserError, match=f'max_pixels={limit} must be at least 1'):
            read(noise(), limit)


def test_bombs_are_refused_wherever_images_are_read(tmp_path, monkeypatch):
    from hkd_mm.datasets.load_skin_image import read_image
    from hkd_mm.datasets.masks import read_mask

    path = tmp_path / 'bomb.png'
    path.write_bytes(_png(Image.new('1', (11_000, 10_000))))
    monkeypatch.setattr(Image.Image, 'load', lambda self: pytest.fail('unpacked'))
    for read in (
        lambda: read_image(str(path)),
        lambda: read_mask(str(path), 2),
        lambda: read_stored(path, 1, 8),
    ):
        with pytest.warns(Image.DecompressionBombWarning):
            with pytest.raises(UserError, match='11000 x 10000 pixels, more'):
                read()


_MEASURE = """
import re
from hkd_mm.io.images import read_rgb
def peak():
    return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])
read_rgb('small.png')
before = peak()
read_rgb('large.png')
print((peak() - before) * 1024 / 20e6)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc')
def test_a_large_image_is_in_memory_but_twice(tmp_path):
    """Pillow's four bytes a pixel, three of the array, and a strip."""
    Image.new('RGB', (10, 10)).save(tmp_path / 'small.png')
    Image.new('RGB', (5000, 4000)).save(tmp_path / 'large.png')
    command = [sys.executable, '-c', _MEASURE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert 5 < float(done.stdout) < 9, done.stderr


@pytest.mark.parametrize('mode', ['RGB', 'L', 'RGBA', 'I;16'])
def test_strips_make_the_same_image(mode, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (23, 37, 4), np.uint8)
    image = Image.fromarray(pixels).convert('I' if mode == 'I;16' else mode)
    for tag in range(10):
        stream, exif = io.BytesIO(), Image.Exif()
        exif[ExifTags.Base.Orientation] = tag
        image.convert(mode).save(stream, 'PNG', exif=exif)
        monkeypatch.setattr(images, '_STRIP', 2**22)
        whole = read_rgb(stream.getvalue())
        assert whole.shape == ((37, 23, 3) if tag in (5, 6, 7, 8) else (23, 37, 3))
        monkeypatch.setattr(images, '_STRIP', 100)
        assert (read_rgb(stream.getvalue()) == whole).all()
