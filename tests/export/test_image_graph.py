# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The resize in the graph is cv2's, pixel for pixel."""

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from hkd_mm.export.onnx_writer import preparing_graph
from hkd_mm.io.input_spec import InputSpec, normalised


def _session(size, mean=(0.0,) * 3, std=(1.0,) * 3, *more):
    colour = 'RGB' if len(mean) == 3 else 'grey'
    spec = InputSpec(size, 'area', colour, mean, std, *more)
    model = preparing_graph(spec)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def _by_cv2(images, size, grey=False):
    wanted = [
        cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in images
    ]
    wanted = [one[..., None] for one in wanted] if grey else wanted
    return np.stack(wanted).transpose(0, 3, 1, 2).astype(np.float32)


def _sizes(high, wide):
    """Heights and widths: same, whole factors, shrunk, enlarged, mixed."""
    return [
        (high, wide),
        (2 * high, 2 * wide),
        (4 * high, 4 * wide),
        (3 * high, 2 * wide),
        (2 * high, wide),
        (high, 5 * wide),
        (high + 1, wide + 1),
        (high * 4 // 3, wide * 4 // 3),
        (high * 3 // 2 + 1, wide * 7 // 3),
        (450, 600),
        (max(high // 2, 1), max(wide // 2, 1)),
        (max(high - 1, 1), max(wide - 1, 1)),
        (2 * high, max(wide // 2, 1)),
        (max(high // 3, 1), 3 * wide),
        (1, 1),
        (1, 4 * wide),
        (6 * high, 1),
        (2, 1),
    ]


@pytest.mark.parametrize(
    'size', [(64, 64), (16, 16), (5, 7), (1, 1), (48, 64), (3, 116)]
)
def test_is_inter_area(size) -> None:
    random = np.random.default_rng(sum(size))
    session = _session(size)
    drawn = random.integers(1, 200, (20, 2)).tolist()
    count = wrong = 0
    for high, wide in [*_sizes(*size), *drawn]:
        images = random.integers(0, 256, (2, high, wide, 3), np.uint8)
        found = session.run(None, dict(images=images))[0]
        wanted = _by_cv2(images, size)
        assert found.shape == wanted.shape and found.dtype == np.float32
        # sums of weights that are no binary fractions: half a level apart
        assert np.abs(found - wanted).max() <= 1, (high, wide)
        count, wrong = count + found.size, wrong + (found != wanted).sum()
        if high < size[0] or wide < size[1]:  # cv2 counts in whole numbers
            assert (found == wanted).all(), (high, wide)
    assert wrong <= max(2, 1e-4 * count)


def test_halves_are_rounded_as_by_cv2() -> None:
    """2 x 2: up, (1 + 2 + 2 + 1 + 2) // 4 = 2; 1 x 2: to even, 2.5 to 2."""
    four = np.array([[[1], [2]], [[2], [1]]], np.uint8).repeat(3, 2)[None]
    assert _session((1, 1)).run(None, dict(images=four))[0].ravel()[0] == 2
    two = np.array([[[2], [3]]], np.uint8).repeat(3, 2)[None]
    assert _session((1, 1)).run(None, dict(images=two))[0].ravel()[0] == 2
    assert _by_cv2(four, (1, 1)).max() == _by_cv2(two, (1, 1)).max() == 2


def test_extremes_stay() -> None:
    session = _session((16, 16))
    for value in (0, 255):
        for size in ((40, 33), (9, 9), (20, 7)):
            images = np.full((1, *size, 3), value, np.uint8)
            found = session.run(None, dict(images=images))[0]
            assert (found == value).all()


def test_channels_are_normalised_each_by_its_own() -> None:
    session = _session((2, 2), (10.0, 20.0, 30.0), (1.0, 2.0, 4.0))
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[..., :] = (12, 24, 38)
    found = session.run(None, dict(images=image))[0]
    assert found[0, :, 0, 0].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('size', [(32, 32), (5, 7)])
def test_one_channel_is_windowed_as_in_training(bits, size) -> None:
    random = np.random.default_rng(bits)
    largest = 2**bits - 1
    window = (0.4 * largest, 0.5 * largest)
    # the whole range brings the stored value back
    whole = _session(size, (0.0,), (255 / largest,), bits, None)
    session = _session(size, (127.5,), (60.0,), bits, window)
    dtype = np.uint16 if bits == 16 else np.uint8
    for high, wide in _sizes(*size):
        images = random.integers(0, largest + 1, (2, high, wide), dtype)
        small = _by_cv2(images[..., None], size, grey=True)
        given = dict(images=images[..., None])
        stored = whole.run(None, given)[0]
        assert stored.shape == (2, 1, *size)
        assert np.abs(stored - small).max() <= 1.1, (high, wide)
        spec = InputSpec(size, 'area', 'grey', (127.5,), (60.0,), bits, window)
        wanted = normalised(small.astype(dtype), spec)
        level = 255 / window[1] / 60
        assert np.abs(session.run(None, given)[0] - wanted).max() < 1.1 * level
