# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The resize in the graph is cv2's, pixel for pixel."""

import json
import shutil
import subprocess

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from hkd_mm.errors import UserError
from hkd_mm.export.onnx_writer import preparing_graph
from hkd_mm.io.input_spec import InputSpec, normalised
from hkd_mm.serve.web import runtime_files


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
    for high, wide in [*_sizes(*size), *drawn]:
        images = random.integers(0, 256, (2, high, wide, 3), np.uint8)
        found = session.run(None, dict(images=images))[0]
        wanted = _by_cv2(images, size)
        assert found.shape == wanted.shape and found.dtype == np.float32
        assert (found == wanted).all(), (high, wide)


@pytest.mark.parametrize('size', [(64, 64), (112, 112)])
@pytest.mark.parametrize(
    'photograph', [(480, 640), (450, 600), (768, 1024), (1200, 1600), (3024, 4032)]
)
def test_usual_photographs_with_halves(size, photograph) -> None:
    """Of few levels, so that many means end in .5, where float32 decides."""
    random = np.random.default_rng(photograph[0])
    image = random.integers(0, 2, (1, *photograph, 3), np.uint8)
    image += random.integers(0, 254, (1, 1, 1, 3), np.uint8)
    found = _session(size).run(None, dict(images=image))[0]
    assert (found == _by_cv2(image, size)).all()


def test_halves_of_whole_factors() -> None:
    """27 x 36 to 1: the product with float32(1 / 972) is below 127.5."""
    random = np.random.default_rng(0)
    image = np.full(27 * 36, 127, np.uint8)
    image[: 27 * 18] = 128
    image = random.permutation(image).reshape(1, 27, 36, 1).repeat(3, 3)
    found = _session((1, 1)).run(None, dict(images=image))[0]
    assert image.mean() == 127.5
    assert (
        found.ravel().tolist() == _by_cv2(image, (1, 1)).ravel().tolist() == [127] * 3
    )


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
        # whole factors of over 256 pixels of 16 bits are no whole numbers in float32
        wholes = bits == 16 and high * wide > 256 * size[0] * size[1]
        assert np.abs(stored - small).max() <= (1.1 if wholes else 0.01), (high, wide)
        spec = InputSpec(size, 'area', 'grey', (127.5,), (60.0,), bits, window)
        wanted = normalised(small.astype(dtype), spec)
        level = 255 / window[1] / 60
        assert np.abs(session.run(None, given)[0] - wanted).max() < 1.1 * level


_WASM = """
import fs from 'fs';
import * as ort from './ort.wasm.bundle.min.mjs';
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = fs.readFileSync('ort-wasm-simd-threaded.wasm').buffer;
const read = name => new Uint8Array(fs.readFileSync(name));
const graph = await ort.InferenceSession.create(read('graph.onnx'));
for (const [high, wide] of JSON.parse(fs.readFileSync('sizes.json'))) {
  const images = new ort.Tensor('uint8', read(`${high}.in`), [1, high, wide, 3]);
  const found = Object.values(await graph.run({images}))[0].data;
  fs.writeFileSync(`${high}.out`, Uint8Array.from(found));
}
"""


def test_in_webassembly_as_well(tmp_path) -> None:
    """What a browser runs, here in Node.js."""
    node = shutil.which('node')
    if node is None:
        pytest.skip('no Node.js on this machine')
    try:
        runtime = runtime_files()
    except UserError as error:
        pytest.skip(str(error))
    for name, data in runtime.items():
        (tmp_path / name).write_bytes(data)
    size, random = (112, 112), np.random.default_rng(0)
    graph = preparing_graph(InputSpec(size, 'area', 'RGB', (0.0,) * 3, (1.0,) * 3))
    (tmp_path / 'graph.onnx').write_bytes(graph.SerializeToString())
    sizes = [(480, 640), (450, 600), (1200, 1600), (3024, 4032), (224, 224), (90, 70)]
    (tmp_path / 'sizes.json').write_text(json.dumps(sizes))
    (tmp_path / 'run.mjs').write_text(_WASM)
    images = [random.integers(0, 256, (*one, 3), np.uint8) for one in sizes]
    for image in images:
        image.tofile(tmp_path / f'{len(image)}.in')
    subprocess.run([node, 'run.mjs'], cwd=tmp_path, check=True, timeout=300)
    for image in images:
        found = np.fromfile(tmp_path / f'{len(image)}.out', np.uint8)
        assert (found == _by_cv2([image], size).ravel()).all(), image.shape
