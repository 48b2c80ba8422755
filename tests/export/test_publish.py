# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""tools/publish.py: an exported run in one folder to hand on."""

import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hkd_mm.errors import UserError
from hkd_mm.export import publish as pack
from hkd_mm.export.export_run import export
from hkd_mm.export.options import ExportOptions
from hkd_mm.export.publish import publish, without_paths
from hkd_mm.inference.classifier import SkinClassifier
from hkd_mm.inference.manifest import read_manifest, write_manifest


@pytest.fixture(scope='module')
def exported(tiny_run, tmp_path_factory):
    """The run with an export in it."""
    run = tmp_path_factory.mktemp('publish') / tiny_run.name
    _copy(tiny_run, run)
    export(run, options=ExportOptions(int8=False), report=lambda line: None)
    return run


def test_the_folder_is_all_that_is_needed(exported, tmp_path):
    folder = publish(exported, tmp_path / 'packed')
    names = {path.name for path in folder.iterdir()}
    assert names == {
        'README.md', 'config.py', 'manifest.json', 'student.onnx',
        'student.safetensors', 'test.json',
    }  # fmt: skip
    images = np.full((3, 20, 30, 3), 60, np.uint8)  # like those of training
    images[np.arange(3), ..., np.arange(3)] = 160
    answers = [
        SkinClassifier.from_pretrained(
            folder, backend=backend, device='cpu'
        ).probabilities(list(images))
        for backend in ('torch', 'onnx')
    ]
    assert np.abs(answers[0] - answers[1]).max() < 1e-5
    assert np.ptp(answers[0], 0).max() > 0.1  # images matter
    manifest = read_manifest(folder)
    assert set(manifest.files) == {'fp32', 'torch'}
    mine = read_manifest(exported / 'export')
    assert manifest.temperature == mine.temperature
    assert manifest.metrics['test'] == {'balanced_accuracy': 0.25}


def test_nothing_tells_of_this_machine(exported, tmp_path):
    folder = publish(exported, tmp_path / 'packed')
    for path in folder.iterdir():
        assert str(exported.parents[1]).encode() not in path.read_bytes()
    told = without_paths({'a': ['/home/me/data', 'x/y'], 'b': ('/q', 3)})
    assert told == {'a': ['data', 'x/y'], 'b': ('q', 3)}


def test_a_licence_of_ones_own(exported, tmp_path):
    folder = publish(exported, tmp_path / 'packed', licence='for us only')
    assert read_manifest(folder).licence == 'for us only'
    card = (folder / 'README.md').read_text()
    assert 'Licence: for us only.' in card
    assert card.startswith('---\nlicense: other\n')
    assert 'look up those of your data' not in card


def _copy(run, target):
    """Without what other tests may have exported there."""
    shutil.copytree(run, target, ignore=shutil.ignore_patterns('export'))


def test_mistakes_are_named(exported, tiny_run, tmp_path, tool, capsys):
    bare, packed = tmp_path / 'bare', tmp_path / 'packed'
    _copy(tiny_run, bare)
    assert tool('publish')([str(bare), '--out', str(packed)]) == 2
    assert 'has no export' in capsys.readouterr().err
    packed.mkdir()
    (packed / 'x').touch()
    with pytest.raises(UserError, match='holds something already'):
        publish(exported, packed)
    other = tmp_path / 'other'
    shutil.copytree(exported, other)
    (other / 'student.pth').unlink()
    with pytest.raises(UserError, match='holds no student.pth'):
        publish(other, tmp_path / 'new')


def test_a_run_may_be_renamed(exported, tmp_path):
    run = shutil.copytree(exported, tmp_path / 'another name')
    folder = publish(run, tmp_path / 'packed')
    assert read_manifest(folder).source['run'] == exported.name


def test_networks_that_answer_differently_are_refused(exported, tmp_path, monkeypatch):
    import torch

    usual = pack._write_weights

    def spoilt(source, target):
        found = torch.load(source, weights_only=True)
        found['state_dict']['head.fc.bias'][0] += 1
        changed = tmp_path / 'student.pth'
        torch.save(found, changed)
        usual(changed, target)

    monkeypatch.setattr(pack, '_write_weights', spoilt)
    told = 'student.onnx does not answer as student.safetensors.*again'
    with pytest.raises(UserError, match=told):
        publish(exported, tmp_path / 'packed')
    assert not (tmp_path / 'packed').exists()


def test_a_run_trained_again_since_is_refused(exported, tmp_path):
    import torch

    run = shutil.copytree(exported, tmp_path / exported.name)
    found = torch.load(run / 'student.pth', weights_only=True)
    found['meta']['epoch'] = 3  # the weights answer alike
    torch.save(found, run / 'student.pth')
    with pytest.raises(UserError, match='as it is now; export the run again'):
        publish(run, tmp_path / 'packed')
    assert not (tmp_path / 'packed').exists()


def test_weights_without_a_graph_are_not_called_compared(exported, tmp_path):
    run = shutil.copytree(exported, tmp_path / exported.name)
    manifest = read_manifest(run / 'export')
    path = run / 'export' / 'student.onnx'
    path.rename(path.with_name('student_int8.onnx'))
    spec = replace(manifest.files['fp32'], path='student_int8.onnx')
    write_manifest(replace(manifest, files=dict(int8=spec)), run / 'export')
    said = []
    publish(run, tmp_path / 'packed', report=said.append)
    assert said[0] == ('warning: no float32 graph to compare student.safetensors with')


class _Hub:
    """Stands for huggingface_hub.HfApi."""

    calls: list = []
    refuse = ''

    def create_repo(self, name, private, exist_ok):
        if self.refuse:
            raise OSError(self.refuse)
        self.calls.append((name, private, exist_ok))

    def upload_folder(self, folder_path, repo_id):
        self.calls.append((folder_path.name, repo_id))
        return 'https://hub/me/net'


def test_the_hub_is_asked_only_when_it_is_wanted(
    exported, tmp_path, tool, monkeypatch, capsys
):
    monkeypatch.setattr(_Hub, 'calls', [])
    monkeypatch.setitem(sys.modules, 'huggingface_hub', SimpleNamespace(HfApi=_Hub))
    run = str(exported)
    assert tool('publish')([run, '--out', str(tmp_path / 'a')]) == 0
    assert _Hub.calls == []
    words = ['--out', str(tmp_path / 'b'), '--hub', 'me/net']
    assert tool('publish')([run, *words]) == 0
    assert _Hub.calls == [('me/net', True, True), ('b', 'me/net')]
    assert 'https://hub/me/net' in capsys.readouterr().out
    monkeypatch.setattr(_Hub, 'refuse', 'Invalid token\nmore')
    words = ['--out', str(tmp_path / 'c'), '--hub', 'me/net', '--public']
    assert tool('publish')([run, *words]) == 2
    assert 'could not be uploaded (Invalid token)' in capsys.readouterr().err
    assert json.loads((tmp_path / 'c' / 'manifest.json').read_text())
