# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The benchmark of other runtimes, and what docs/export.md says it found."""

import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

for _package in ('onnx', 'onnxscript', 'onnxruntime'):
    pytest.importorskip(_package)

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'tools/benchmarks'
STUDENT = ROOT / 'models/ham10000_small'
FOUND = ROOT / 'docs/results/latency/runtimes.json'
PAGE = (ROOT / 'docs/export.md').read_text(encoding='utf-8')


@pytest.fixture
def module(monkeypatch):
    """``module(name)`` of ``tools/benchmarks``."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for path in FOLDER.glob('*.py'):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def photographs(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(6):
        rough = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        rough.resize((160, 120)).save(tmp_path / f'{number}.jpg')
    return tmp_path


def test_the_page_quotes_what_was_measured(module) -> None:
    report = json.loads(FOUND.read_text())
    lines = PAGE.splitlines()
    for row in module('runtimes').cells(report):
        assert f'| {" | ".join(row)} |' in lines
    assert '/work' not in FOUND.read_text() and report['left_out'] == {}
    assert {row['images'] for row in report['rows']} == {100}
    exact = [row for row in report['rows'] if row['precision'] == 'float32']
    assert {row['runtime'] for row in exact} == {
        *('ONNX Runtime', 'OpenVINO', 'LiteRT', 'ExecuTorch', 'ncnn')
    }
    assert max(row['max_probability'] for row in exact) < 3e-6
    assert all(row['same_class'] == 100 for row in exact)


def test_answers_and_what_is_left_out(module, photographs, monkeypatch, capsys):
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), *sys.path]))
    out = photographs / 'found/report.json'
    module('runtimes').main(
        [
            *(str(STUDENT), '--photographs', str(photographs), '--out', str(out)),
            *('--images', '4', '--calibration-images', '2', '--rounds', '2'),
            *('--seconds', '0.05', '--runtimes', 'onnx_int8', 'openvino'),
        ]
    )
    report = json.loads(out.read_text())
    known, int8, *others = report['rows']
    assert known['max_probability'] == 0 and known['times_faster'] == 1
    assert int8['precision'] == 'int8' and 0 < int8['max_probability'] < 1
    assert int8['bytes'] < known['bytes'] / 2 and int8['median_ms'] > 0
    if importlib.util.find_spec('openvino'):
        (row,) = others
        assert row['same_class'] == 4 and row['max_probability'] < 1e-5
    else:
        assert others == []
        assert 'pip install openvino' in report['left_out']['openvino']
        assert 'OpenVINO, float32, is left out' in capsys.readouterr().out


def test_too_few_photographs_are_one_line(module, photographs) -> None:
    words = [str(STUDENT), '--photographs', str(photographs)]
    with pytest.raises(SystemExit, match='has 6 of the 356 .jpg needed'):
        module('runtimes').main(words)


def test_the_network_in_torch_is_that_of_the_graph(module, tmp_path) -> None:
    """What LiteRT and ExecuTorch are converted from."""
    import onnxruntime
    import torch

    graph = (STUDENT / 'student.onnx').read_bytes()
    (tmp_path / 'student.onnx').write_bytes(graph)
    images = np.random.default_rng(0).standard_normal((2, 3, 112, 112), np.float32)
    wanted = onnxruntime.InferenceSession(graph).run(None, dict(images=images))[0]
    network = module('_runtimes')._torch_network(tmp_path)
    with torch.no_grad():
        found = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_code_for_openvino_runs(monkeypatch) -> None:
    pytest.importorskip('openvino')
    import onnxruntime

    images = np.random.default_rng(0).standard_normal((3, 3, 112, 112), np.float32)
    session = onnxruntime.InferenceSession(STUDENT / 'student.onnx')
    wanted = session.run(None, dict(images=images))[0]
    monkeypatch.chdir(STUDENT)
    names = dict(images=images)
    (code,) = (x for x in PAGE.split('```python\n') if x.startswith('import openvino'))
    exec(code.split('```')[0], names)
    np.testing.assert_allclose(names['logits'], wanted, atol=1e-4)
