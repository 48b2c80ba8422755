# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""tools/publish.py: an exported run in one folder to hand on."""

import html
import json
import re
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt

from hkd_mm.errors import UserError
from hkd_mm.export import publish as pack
from hkd_mm.export.card import (
    HUB_LICENCES,
    card_text,
    hub_licence,
    licence_text,
    packed_card,
)
from hkd_mm.export.export_run import export
from hkd_mm.export.options import ExportOptions
from hkd_mm.export.publish import publish, without_paths
from hkd_mm.inference.classifier import SkinClassifier
from hkd_mm.inference.manifest import read_manifest, write_manifest
from hkd_mm.io.markup import clean


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


def test_for_use_without_torch_four_files_are_enough(exported, tmp_path, tool, capsys):
    folder = tmp_path / 'models/ham10000_small'
    words = ['--onnx-only', '--licence', 'CC BY-NC 4.0', '--attribution', 'A <b>, 2018']
    assert tool('publish')([str(exported), '--out', str(folder), *words]) == 0
    assert capsys.readouterr().out.startswith(f'packed {folder}: ')
    names = {path.name for path in folder.iterdir()}
    assert names == {'README.md', 'LICENSE', 'manifest.json', 'student.onnx'}
    manifest = read_manifest(folder)
    assert set(manifest.files) == {'fp32'} and manifest.licence == 'CC BY-NC 4.0'
    card = (folder / 'README.md').read_text('utf-8')
    assert card.startswith('---\nlicense: cc-by-nc-4.0\n')
    assert '\nLicence: CC BY-NC 4.0. Images: A &lt;b>, 2018.\n' in card
    assert 'int8' not in card  # none is there
    assert 'safetensors' not in card and "from_pretrained('.')" in card
    assert (folder / 'LICENSE').read_text('utf-8').splitlines()[::2] == [
        'The files in this folder: CC BY-NC 4.0.',
        'The text of that licence: '
        'https://creativecommons.org/licenses/by-nc/4.0/legalcode',
        'The images that they were made from: A <b>, 2018.',
    ]
    assert licence_text('for us', None) == 'The files in this folder: for us.\n'
    assert 'licenses/by/3.0/' in licence_text('CC BY 3.0', None)
    assert '://' not in licence_text('CC0', None) + licence_text('MIT', None)
    image = np.full((20, 30, 3), 60, np.uint8)
    mine, packed = (SkinClassifier(at) for at in (exported / 'export', folder))
    assert packed(image) == mine(image)


def test_only_int8_is_not_enough_without_torch(exported, tmp_path):
    run = shutil.copytree(exported, tmp_path / exported.name)
    manifest = read_manifest(run / 'export')
    files = dict(int8=manifest.files['fp32'])
    write_manifest(replace(manifest, files=files), run / 'export')
    with pytest.raises(UserError, match='no float32 graph for --onnx-only; export'):
        publish(run, tmp_path / 'packed', onnx_only=True)
    assert not (tmp_path / 'packed').exists()


def _copy(run, target):
    """Without what other tests may have exported there."""
    shutil.copytree(run, target, ignore=shutil.ignore_patterns('export'))


def test_mistakes_are_named(exported, tiny_run, tmp_path, tool, capsys):
    bare, packed = tmp_path / 'bare', tmp_path / 'packed'
    _copy(tiny_run, bare)
    assert tool('publish')([str(bare), '--out', str(packed)]) == 2
    assert 'has no whole export' in capsys.readouterr().err
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


ATTACKS = [
    '<img src=x onerror=alert(1)>', '[x](javascript:alert(1))', 'a|b', '`', 'a\n---\nb',
    '---', '{{ 7 }}', "=cmd|' /C calc'!A0", '\udcff', '黒色腫', 'x' * 250,
]  # fmt: skip


@pytest.mark.parametrize('name', ATTACKS)
def test_a_card_shows_names_and_runs_nothing(exported, tmp_path, name):
    def renamed(value):
        """With the class Acne, and all that counts for it, under this name."""
        if isinstance(value, dict):
            return {renamed(key): renamed(item) for key, item in value.items()}
        return name if value == 'Acne' else value

    found = read_manifest(exported / 'export')
    found = replace(
        found, name=name, architecture=name, licence=name, notice=name,
        classes=tuple(map(renamed, found.classes)), checks=renamed(found.checks),
        source=dict(found.source, run=name),
    )  # fmt: skip
    environment = dict(command=['tools/train.py', name], python=name, cpu=name)
    (tmp_path / 'environment.json').write_text(json.dumps(environment))
    card = card_text(found, SimpleNamespace(folder=tmp_path))
    text = packed_card(card, replace(found, files=dict(torch=next(iter(
        found.files.values())))), 'student.safetensors')  # fmt: skip
    text.encode()
    start, header, body = re.split('^---\n', text, maxsplit=2, flags=re.MULTILINE)
    assert start == '' and yaml.safe_load(header)['license'] == 'other'
    assert set(yaml.safe_load(header)) == {
        'license', 'license_name', 'library_name', 'pipeline_tag', 'tags'
    }  # fmt: skip
    page = MarkdownIt('gfm-like', dict(html=True, linkify=False)).render(body)
    assert not re.search('<img|<a |javascript:[^<]*"|<hr', page)
    assert len(re.findall('<h1>', page)) == 1 and len(re.findall('<h2>', page)) == 5
    seen = html.unescape(re.sub('<[^>]*>', '', page))
    assert seen.count(clean(name)) >= (7 if name == '\udcff' else 9)
    rows = [row.count('<t') for row in re.findall('<tr>.*?</tr>', page, re.DOTALL)]
    assert set(rows) == {3, 4, 5}  # cells, and the row itself


@pytest.mark.parametrize(
    ('text', 'known'),
    [
        ('CC BY-NC 4.0', 'cc-by-nc-4.0'), ('cc_by_nc_4.0', 'cc-by-nc-4.0'),
        ('Attribution-NonCommercial 4.0 International (CC BY-NC 4.0)', 'cc-by-nc-4.0'),
        ('https://creativecommons.org/licenses/by-nc/4.0/', 'cc-by-nc-4.0'),
        ('Creative Commons Attribution-ShareAlike 4.0', 'cc-by-sa-4.0'),
        ('CC-BY-SA-4.0', 'cc-by-sa-4.0'), ('CC BY 3.0', 'cc-by-3.0'),
        ('CC0', 'cc0-1.0'), ('CC0 1.0 Universal', 'cc0-1.0'),
        ('MIT License', 'mit'), ('Apache', 'apache-2.0'),
        ('Apache 2.0', 'apache-2.0'), ('Apache License, Version 2.0', 'apache-2.0'),
        ('3-clause BSD', 'bsd-3-clause'), ('GPLv3', 'gpl-3.0'),
        ('GPL-3.0-or-later', 'gpl-3.0'), ('Mozilla Public License 2', 'mpl-2.0'),
        ('CC BY-NC', None), ('CC BY-NC 5.0', None), ('MIT or Apache 2.0', None),
        ('not MIT', None), ('MIT-0', None), ('CC BY-NC 4.0, for research', None),
        ('for us only', None), ('', None), ('黒', None),
    ],
)  # fmt: skip
def test_licences_have_the_ids_of_the_hub(text, known):
    assert hub_licence(text) == known
    assert all(hub_licence(name) == name for name in HUB_LICENCES)


def test_the_header_of_a_card_names_the_licence(exported, tmp_path):
    said = []
    cards = []
    for number, licence in enumerate(
        ('CC BY-NC 4.0', 'For us: "only"', 'http://e.org/l')
    ):
        folder = publish(exported, tmp_path / str(number), licence, said.append)
        card = (folder / 'README.md').read_text('utf-8')
        cards.append(yaml.safe_load(card.split('---\n')[1]))
        assert f'\nLicence: {licence}.\n' in card
    assert cards[0]['license'] == 'cc-by-nc-4.0' and 'license_name' not in cards[0]
    assert cards[1]['license'] == 'other' and cards[1]['license_name'] == 'for-us-only'
    assert cards[2]['license_link'] == 'http://e.org/l'
    warned = [line for line in said if line.startswith('warning')]
    assert len(warned) == 2 and 'no id of the licence "For us: "only""' in warned[0]
    folder = publish(exported, tmp_path / 'default', report=said.append)
    header = yaml.safe_load((folder / 'README.md').read_text('utf-8').split('---\n')[1])
    assert header['license_name'] == 'terms-of-the-images' and len(said) == 6
