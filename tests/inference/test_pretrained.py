# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Students that come with hkd_mm: found by name, and as small as is promised."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import WITHOUT_TRAINING
from PIL import Image, ImageDraw

from hkd_mm.apis import Segmentor, SkinClassifier
from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import read_manifest
from hkd_mm.inference.pretrained import (
    PRETRAINED,
    ROOTS,
    introduction,
    pretrained_folder,
)

pytest.importorskip('onnxruntime')

ROOT = Path(__file__).resolve().parents[2]


def test_a_name_is_that_folder(pretrained, noise):
    assert pretrained_folder() == pretrained
    found = SkinClassifier.from_pretrained('ham10000', batch_size=2)
    assert found.student.weights.parent == pretrained and found.batch_size == 2
    assert found(noise(3)) == SkinClassifier(pretrained)(noise(3))
    half = SkinClassifier.from_pretrained('ham10000', precision='int8')
    assert half.student.weights.name == 'student_int8.onnx'
    with pytest.raises(UserError, match='network for classification'):
        Segmentor.from_pretrained('ham10000')
    with pytest.raises(UserError, match='lists no "torch"; it has fp32, int8'):
        SkinClassifier.from_pretrained('ham10000', backend='torch')


def test_a_folder_of_that_name_is_told_apart(exported, pretrained, in_tmp):
    os.symlink(exported, in_tmp / 'ham10000')
    with pytest.warns(UserWarning, match=r'write \./ham10000 for what has'):
        found = SkinClassifier.from_pretrained('ham10000')
    assert found.student.weights.parent == pretrained
    for path in ('./ham10000', Path('ham10000')):
        found = SkinClassifier.from_pretrained(path)
        assert found.student.weights.parent == Path('ham10000')


def test_one_that_is_not_there_is_told_in_a_line(pretrained):
    (pretrained / 'manifest.json').unlink()
    with pytest.raises(UserError, match='"ham10000" is not in this copy .*; give a f'):
        SkinClassifier.from_pretrained('ham10000')


def test_the_repository_comes_before_the_installation(tmp_path, monkeypatch, exported):
    roots = [tmp_path / name for name in 'ab']
    monkeypatch.setattr('hkd_mm.inference.pretrained.ROOTS', roots)
    for root in reversed(roots):
        root.mkdir()
        os.symlink(exported, root / 'ham10000_small')
        assert pretrained_folder().parent == root
    assert ROOTS == (ROOT / 'models', ROOT / 'hkd_mm/.mim/models')


_ALONE = f"""{WITHOUT_TRAINING}
from hkd_mm.apis import SkinClassifier
[image] = sys.argv[1:]
print(SkinClassifier.from_pretrained('ham10000')(image).best)
"""


@pytest.mark.parametrize('name', PRETRAINED)
def test_the_files_are_small_listed_and_licensed(name):
    folder = ROOT / 'models' / PRETRAINED[name]
    manifest = read_manifest(folder)
    listed = {spec.path for spec in manifest.files.values()}
    others = {'manifest.json', 'README.md', 'LICENSE'}
    assert {path.name for path in folder.iterdir()} == listed | others
    assert 'fp32' in manifest.files and set(manifest.files) <= {'fp32', 'int8'}
    for kind in manifest.files:
        path = manifest.file_of(folder, kind)  # compares length and hash
        assert path.stat().st_size < 4_000_000
    assert manifest.parameters <= 1_000_000 and manifest.metrics['test']
    assert manifest.licence == 'CC BY-NC 4.0'
    licence = (folder / 'LICENSE').read_text('utf-8')
    assert 'CC BY-NC 4.0' in licence and 'HAM10000' in licence
    assert 'licenses/by-nc/4.0/legalcode' in licence
    card = (folder / 'README.md').read_text('utf-8')
    assert card.startswith('---\nlicense: cc-by-nc-4.0\n') and 'HAM10000' in card
    for place in ('/work/', '/home/', '/tmp/'):
        assert place not in card + (folder / 'manifest.json').read_text('utf-8')
    assert len(introduction(manifest).splitlines()) == 1


def test_the_student_classifies_a_drawn_lesion(tmp_path):
    image = Image.new('RGB', (600, 450), (226, 178, 160))
    draw = ImageDraw.Draw(image)
    draw.ellipse((200, 120, 400, 320), fill=(110, 66, 50))
    draw.ellipse((250, 170, 330, 260), fill=(60, 36, 34))
    image.save(tmp_path / 'lesion.png')
    classifier = SkinClassifier.from_pretrained('ham10000')
    assert sorted(classifier.classes) == 'akiec bcc bkl df mel nv vasc'.split()
    probabilities = classifier.probabilities(tmp_path / 'lesion.png')
    assert probabilities.shape == (1, 7) and abs(probabilities.sum() - 1) < 1e-5
    blank = classifier.probabilities(np.full((90, 90, 3), 226, np.uint8))
    assert np.abs(probabilities - blank).max() > 1e-3  # the image matters
    # ONNX Runtime keeps no device id and sends nothing, as it else does
    unset = ('CI', 'ORT_DISABLE_TELEMETRY', 'ORT_RUNNING_UNIT_TESTS', 'XDG_CACHE_HOME')
    kept = {key: value for key, value in os.environ.items() if key not in unset}
    (tmp_path / 'home').mkdir()
    ran = subprocess.run(
        [sys.executable, '-c', _ALONE, tmp_path / 'lesion.png'],
        env=dict(kept, PYTHONPATH=str(ROOT), HOME=str(tmp_path / 'home')),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == [classifier(tmp_path / 'lesion.png').best]
    assert [*(tmp_path / 'home').rglob('*deviceid*')] == []
    assert [*(tmp_path / 'home').rglob('onnxruntime*')] == []


def test_pages_take_it_by_name_beside_others(exported, in_tmp):
    from hkd_mm.serve import demo, web

    title, folder = demo._named('ham10000')
    assert (title, folder) == ('ham10000', pretrained_folder())
    assert demo._named(f'mine={exported}') == ('mine', str(exported))
    for text, name in (('ham10000', 'ham10000'), ('small=ham10000', 'small')):
        found, student = web._student(text)
        assert found == name and student.classes[0] == 'akiec'
    os.symlink(exported, in_tmp / 'ham10000')
    with pytest.warns(UserWarning, match=r'write \./ham10000 for what has'):
        assert demo._named('ham10000') == ('ham10000', pretrained_folder())
    assert demo._named('./ham10000') == ('ham10000', './ham10000')
