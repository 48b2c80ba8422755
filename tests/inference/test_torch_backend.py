# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""torch answers as ONNX does, from safe files and from runs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import (
    CLASSES,
    MEAN,
    SIZE,
    STD,
    WEIGHTS,
    export_tiny,
    write_tiny_manifest,
)
from mmengine.model import BaseModule
from safetensors.torch import save_file

from hkd_mm.apis import SkinClassifier
from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import file_spec
from hkd_mm.registry import MODELS

pytestmark = pytest.mark.usefixtures('quick_runner')

STATE = {
    'head.fc.weight': torch.from_numpy(WEIGHTS),
    'head.fc.bias': torch.zeros(3),
}


@MODELS.register_module(force=True)
class PixelsAsFeatures(BaseModule):
    """The mean of each channel, in the end, is all that the head sees."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        return (images,)


def _meta(to_rgb: bool = True) -> dict:
    order = slice(None, None, 1 if to_rgb else -1)
    return dict(
        classes=list(CLASSES),
        student=dict(
            type='ImageClassifier',
            backbone=dict(type='hkd_mm.PixelsAsFeatures'),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=3),
        ),
        data_preprocessor=dict(
            mean=list(MEAN[order]), std=list(STD[order]), to_rgb=to_rgb
        ),
    )


def _state(to_rgb: bool = True) -> dict[str, torch.Tensor]:
    weight = STATE['head.fc.weight']
    weight = weight if to_rgb else weight.flip(1).contiguous()
    return {**STATE, 'head.fc.weight': weight}


def _add_torch(folder: Path, meta: dict | None, state: dict) -> Path:
    path = folder / 'student.safetensors'
    save_file(state, path, meta and dict(hkd_mm=json.dumps(meta)))
    write_tiny_manifest(
        folder,
        CLASSES,
        0.6,
        torch=file_spec(path, 'tensor', 'logits'),
        **{
            kind: file_spec(folder / name, 'tensor', 'logits')
            for kind, name in (('fp32', 'student.onnx'),)
            if (folder / name).is_file()
        },
    )
    return folder


@pytest.mark.parametrize('to_rgb', [True, False], ids=['RGB', 'BGR'])
def test_both_backends_agree(tmp_path, noise, to_rgb):
    pytest.importorskip('onnxruntime')
    folder = export_tiny(tmp_path / 'export')
    _add_torch(folder, _meta(to_rgb), _state(to_rgb))
    images = [noise(seed, 20 + seed, 31) for seed in range(7)]
    found = {}
    for backend in ('onnx', 'torch'):
        classifier = SkinClassifier(folder, backend, batch_size=3)
        assert classifier.student.backend == backend
        found[backend] = classifier.probabilities(images)
        confident = [answer.confident for answer in classifier(images)]
        assert confident == [bool(row.max() >= 0.6) for row in found[backend]]
    assert np.ptp(found['onnx']) > 0.3
    np.testing.assert_allclose(found['torch'], found['onnx'], atol=1e-4)


def test_torch_is_taken_where_there_is_no_onnx_file(tmp_path):
    folder = _add_torch(tmp_path, _meta(), _state())
    classifier = SkinClassifier(folder, device='cpu')
    assert classifier.student.backend == 'torch'
    with pytest.raises(UserError, match='lists no "int8"'):
        SkinClassifier(folder, precision='int8')
    with pytest.raises(UserError, match="device 'nonsense'"):
        SkinClassifier(folder, device='nonsense')


def test_weights_are_never_unpickled(tmp_path, monkeypatch):
    path = tmp_path / 'student.pth'
    torch.save(dict(state_dict=_state(), meta=_meta()), path)
    write_tiny_manifest(
        tmp_path, CLASSES, 0.6, torch=file_spec(path, 'tensor', 'logits')
    )
    monkeypatch.setattr('torch.load', lambda *a, **k: pytest.fail('opened'))
    with pytest.raises(UserError, match='safetensors only'):
        SkinClassifier(tmp_path, backend='torch')


@pytest.mark.parametrize('meta', [None, dict(classes=['a'])])
def test_weights_that_do_not_say_their_network_are_refused(tmp_path, meta):
    _add_torch(tmp_path, meta, _state())
    with pytest.raises(UserError, match='which network it is'):
        SkinClassifier(tmp_path)


@pytest.mark.parametrize('header', ['[' * 100_000, '{"student": ' * 100_000, 'x', '3'])
def test_headers_that_nobody_wrote_are_refused(tmp_path, header):
    path = tmp_path / 'student.safetensors'
    save_file(_state(), path, dict(hkd_mm=header))
    write_tiny_manifest(
        tmp_path, CLASSES, 0.6, torch=file_spec(path, 'tensor', 'logits')
    )
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000_000)  # as other packages do
    try:
        with pytest.raises(UserError, match='student.safetensors') as told:
            SkinClassifier(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert '\n' not in str(told.value)


def test_weights_of_another_network_are_refused(tmp_path):
    state = {**_state(), 'head.fc.bias': torch.zeros(4)}
    _add_torch(tmp_path, _meta(), state)
    with pytest.raises(UserError, match='does not fit'):
        SkinClassifier(tmp_path)


@pytest.fixture
def run(tmp_path, tiny_configs) -> Path:
    """A work dir with as much as is read of it."""
    folder = tmp_path / 'run'
    folder.mkdir()
    text = tiny_configs['student'].read_text()
    height, width = SIZE
    text = text.replace('input_size = 16', 'input_size = None  # no square')
    text = text.replace(
        "dict(type='Resize', scale=input_size)",
        f"dict(type='Resize', scale=({width}, {height}), interpolation='area')",
    )
    (folder / 'config.py').write_text(text)
    torch.save(dict(state_dict=_state(), meta=_meta()), folder / 'student.pth')
    return folder


def test_a_run_answers_without_temperature_and_threshold(run, noise):
    rgb = noise(5, *SIZE)
    for place in (run, run / 'student.pth'):
        with pytest.warns(UserWarning, match='temperature 1') as told:
            classifier = SkinClassifier(place)
        assert sum('export' in str(one.message) for one in told) == 1
        answer = classifier(rgb)
        assert answer.confident is None and 'not known' in str(answer)
        pooled = ((rgb - MEAN) / STD).mean((0, 1))
        raised = np.exp(WEIGHTS @ pooled)
        np.testing.assert_allclose(
            classifier.probabilities(rgb)[0], raised / raised.sum(), rtol=1e-4
        )


def test_a_run_is_no_onnx_and_no_int8(run):
    for words in (dict(backend='onnx'), dict(precision='int8')):
        with pytest.raises(UserError, match='tools/export.py'):
            SkinClassifier(run, **words)
    (run / 'student.pth').unlink()
    with pytest.raises(UserError, match='finished run'):
        SkinClassifier(run)
