# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A classifier answers as its network, its temperature and threshold say."""

import json
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from exported import (
    CLASSES,
    SIZE,
    WEIGHTS,
    WITHOUT_TRAINING,
    expected,
    export_tiny,
)
from PIL import Image

from hkd_mm.apis import SkinClassifier
from hkd_mm.errors import UserError
from hkd_mm.inference import Answer

pytest.importorskip('onnxruntime')

ROOT = Path(__file__).resolve().parents[2]
H, W = SIZE


def test_probabilities_are_the_tempered_softmax(exported, noise):
    classifier = SkinClassifier(exported, threads=1)
    images = [noise(seed, 3 * H, 2 * W) for seed in range(5)]
    found = classifier.probabilities(images)
    assert found.dtype == np.float32 and found.shape == (5, 3)
    np.testing.assert_allclose(found, list(map(expected, images)), rtol=1e-4)
    np.testing.assert_array_equal(classifier.probabilities(images[0]), found[:1])
    halved = SkinClassifier(exported, precision='int8').probabilities(images)
    other = [expected(image, 0.5) for image in images]
    np.testing.assert_allclose(halved, other, rtol=1e-4)


def test_one_a_list_and_a_folder(exported, tmp_path, noise, monkeypatch):
    photos = tmp_path / 'photos'
    (photos / 'b').mkdir(parents=True)
    for seed, name in enumerate(('c.png', 'b/a.png', '.hidden.png')):
        Image.fromarray(noise(seed)).save(photos / name)
    (photos / 'notes.txt').write_text('no image')
    classifier = SkinClassifier(exported, batch_size=2)
    one = classifier(photos / 'c.png')
    assert isinstance(one, Answer)
    assert classifier([photos / 'c.png', noise(1), noise(0)]) == [
        one,
        classifier(noise(1)),
        one,
    ]
    assert classifier(str(photos)) == [one, classifier(noise(1))]
    assert classifier([]) == []
    assert classifier.probabilities([]).shape == (0, 3)
    assert len(classifier(np.stack([noise(0), noise(1)]))) == 2
    with pytest.raises(UserError, match='lost.png'):
        classifier([noise(0), 'lost.png'])


def test_the_answer_ranks_and_says_whether_it_is_confident(exported):
    classifier = SkinClassifier(exported)
    for value in (np.uint8([20, 60, 90]), np.uint8([110, 115, 120])):
        rgb = np.broadcast_to(value, (H, W, 3))
        answer = classifier(rgb)
        wanted = expected(rgb)
        names = [CLASSES[i] for i in np.argsort(-wanted)]
        assert [name for name, _ in answer.classes] == names
        assert (answer.best, answer.probability) == answer.classes[0]
        assert answer.probability == pytest.approx(wanted.max(), rel=1e-4)
        assert answer.confident is bool(wanted.max() >= 0.6)
        assert '\n' not in str(answer) and answer.best in str(answer)
        assert ('not confident' in str(answer)) is not answer.confident
    assert {classifier(np.full((H, W, 3), v, np.uint8)).confident
            for v in (0, 108, 255)} == {True, False}  # fmt: skip


def test_without_a_reachable_threshold_nothing_is_confident(tmp_path):
    folder = export_tiny(tmp_path / 'a', 100 * WEIGHTS, None)
    answer = SkinClassifier(folder)(np.zeros((H, W, 3), np.uint8))
    assert answer.probability == 1 and answer.confident is False


def test_of_a_run_the_export_is_taken_and_told(tmp_path):
    export_tiny(tmp_path / 'run' / 'export')
    with pytest.warns(UserWarning, match='is a run: its export is taken, .*/export$'):
        classifier = SkinClassifier(tmp_path / 'run')
    assert classifier.student.manifest.name == 'tiny'
    with pytest.warns(UserWarning, match='its export is taken'):
        SkinClassifier.from_pretrained(tmp_path / 'run', precision='int8')
    with pytest.raises(UserError, match='holds neither manifest.json nor student.pth'):
        SkinClassifier(tmp_path / 'run', backend='torch')


def test_an_answer_is_fixed_and_tells_that_no_threshold_is_known():
    answer = Answer((('mel', 0.75), ('nv', 0.25)), None)
    assert 'not known' in str(answer) and 'not confident' not in str(answer)
    with pytest.raises(AttributeError):
        answer.confident = True
    with pytest.raises(AttributeError, match='now called Answer.confident'):
        _ = answer.sure


def test_several_threads_read_the_same(exported, noise):
    classifier = SkinClassifier(exported)
    images = [noise(seed) for seed in range(8)]
    alone = [classifier(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(classifier, images * 4)) == alone * 4


@pytest.mark.parametrize(
    'words, message',
    [
        (dict(backend='tensorflow'), 'onnx'),
        (dict(precision='int4'), 'int8'),
        (dict(backend='torch', precision='int8'), 'int8'),
        (dict(threads=0), 'threads=0'),
        (dict(batch_size=0), 'batch_size=0'),
        (dict(device='tpu'), 'tpu'),
        (dict(backend='torch'), 'lists no "torch"'),
    ],
)
def test_wrong_words_are_told(exported, words, message):
    with pytest.raises(UserError, match=message):
        SkinClassifier(exported, **words)


def test_changed_missing_and_foreign_files_are_refused(exported, tmp_path):
    network = exported / 'student.onnx'
    content = bytearray(network.read_bytes())
    content[-1] ^= 1
    network.write_bytes(content)
    with pytest.raises(UserError, match='student.onnx'):
        SkinClassifier(exported)
    SkinClassifier(exported, precision='int8')
    network.unlink()
    with pytest.raises(UserError, match='missing'):
        SkinClassifier(exported)
    with pytest.raises(UserError, match='does not exist'):
        SkinClassifier(tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='manifest.json'):
        SkinClassifier(tmp_path / 'empty', backend='onnx')


def test_a_network_of_other_classes_or_without_numbers_is_told(tmp_path):
    broken = export_tiny(tmp_path / 'a', np.full_like(WEIGHTS, np.nan))
    with pytest.raises(UserError, match='finite'):
        SkinClassifier(broken)(np.zeros((H, W, 3), np.uint8))
    other = export_tiny(tmp_path / 'b', WEIGHTS[:2])
    with pytest.raises(UserError, match='one finite number a class'):
        SkinClassifier(other)(np.zeros((H, W, 3), np.uint8))


_ALONE = f"""{WITHOUT_TRAINING}
from hkd_mm.apis import SkinClassifier
from hkd_mm.serve.predictor import predict
folder, image, out = sys.argv[1:]
print(SkinClassifier(folder)(image).best)
predict([image], folder, out)
try:
    SkinClassifier(folder, backend='torch')
except Exception as error:
    print(type(error).__name__)
"""


def test_neither_torch_nor_openmmlab_is_needed(exported, tmp_path, noise):
    image, out = tmp_path / 'a.png', tmp_path / 'out.csv'
    Image.fromarray(noise(4, 3 * H, 2 * W)).save(image)
    ran = subprocess.run(
        [sys.executable, '-c', _ALONE, exported, image, out],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=True,
    )
    best = CLASSES[expected(noise(4, 3 * H, 2 * W)).argmax()]
    assert ran.stdout.split() == [best, 'UserError']
    assert f'{image},{best}' in out.read_text()


class _Hub:
    """A stand-in for huggingface_hub that knows one model."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, []

    def hf_hub_download(self, name, file, revision=None):
        self.calls.append((file, revision))
        if name != 'owner/tiny':
            raise ConnectionError('no network\nmore')
        return str(self.folder / file)


def test_from_pretrained(exported, monkeypatch, noise):
    hub = _Hub(exported)
    monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
    here = SkinClassifier.from_pretrained(exported)
    assert not hub.calls
    there = SkinClassifier.from_pretrained('owner/tiny', revision='v1')
    assert there(noise(3)) == here(noise(3))
    # both files of one commit, whose name the cache's folder has
    assert hub.calls == [
        ('manifest.json', 'v1'),
        ('student.onnx', exported.name),
    ]
    for name, word in (
        ('owner/other', r'\(no network\)'),
        ('no_such_folder', r'comes with hkd_mm \(ham10000\), .*OWNER/NAME'),
        ('/no/such/folder', 'OWNER/NAME'),
    ):
        with pytest.raises(UserError, match=word):
            SkinClassifier.from_pretrained(name)
    with pytest.raises(UserError, match='no "torch"'):
        SkinClassifier.from_pretrained('owner/tiny', backend='torch')


def test_without_huggingface_hub_the_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(UserError, match='pip install huggingface_hub'):
        SkinClassifier.from_pretrained('owner/tiny')


def test_without_onnxruntime_the_command_is_told(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(UserError, match='pip install onnxruntime'):
        SkinClassifier(exported, backend='onnx')


def test_the_manifest_names_only_files_of_the_folder(exported):
    path = exported / 'manifest.json'
    data = json.loads(path.read_text())
    data['files']['fp32']['path'] = '../student.onnx'
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match='files.fp32.path'):
        SkinClassifier(exported)


@pytest.mark.parametrize(
    ('processor', 'precision', 'warned'),
    [
        ('flags : avx2', 'int8', True),
        ('flags : avx2 avx512_vnni', 'int8', False),
        ('flags : avx2', 'fp32', False),
    ],
)
def test_int8_is_told_where_it_may_overflow(
    exported, monkeypatch, tmp_path, processor, precision, warned
):
    from hkd_mm.inference import backends

    (tmp_path / 'cpuinfo').write_text(processor)
    monkeypatch.setattr(backends.platform, 'machine', lambda: 'x86_64')
    monkeypatch.setattr(backends, '_CPUINFO', str(tmp_path / 'cpuinfo'))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        SkinClassifier(exported, precision=precision)
    found = [w for w in told if 'without VNNI' in str(w.message)]
    assert len(found) == warned


def test_a_device_that_onnx_runtime_does_without_is_refused(exported, monkeypatch):
    """It has CUDA in its list, and takes the CPU where CUDA cannot load."""
    import onnxruntime

    both = ['CUDAExecutionProvider', 'CPUExecutionProvider']
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: both)
    real = onnxruntime.InferenceSession

    def session(path, options, providers):
        assert providers == both[:1]
        return real(path, options, providers=both[1:])

    monkeypatch.setattr(onnxruntime, 'InferenceSession', session)
    told = "device 'cuda': .* took CPUExecutionProvider instead"
    with pytest.raises(UserError, match=told) as error:
        SkinClassifier(exported, device='cuda')
    assert '\n' not in str(error.value)


def test_onnx_runtime_may_not_turn_to_the_cpu_later(exported, monkeypatch):
    import onnxruntime

    done = []
    monkeypatch.setattr(
        onnxruntime.InferenceSession,
        'disable_fallback',
        lambda self: done.append(self),
    )
    SkinClassifier(exported)
    assert len(done) == 1


def test_a_photograph_of_a_format_that_is_not_read_is_no_secret(
    exported, tmp_path, noise
):
    photos = tmp_path / 'photos'
    photos.mkdir()
    for name in ('a.jfif', 'b.JPE'):
        Image.fromarray(noise(1)).save(photos / name, 'JPEG')
    classifier = SkinClassifier(exported)
    assert len(classifier(photos)) == 2
    (photos / 'c.heic').write_bytes(b'\0\0\0\x18ftypheic')
    with pytest.raises(UserError, match='c.heic.* none of JPEG, PNG, WEBP'):
        classifier(photos)
