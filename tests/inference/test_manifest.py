# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Manifests: whole ones come back, damaged ones are refused by name."""

import json
import sys
from pathlib import Path

import pytest

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import (
    ClassifierManifest,
    SegmentorManifest,
    Threshold,
    file_spec,
    read_manifest,
    write_manifest,
)
from hkd_mm.io.input_spec import InputSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An exported student whose network is five bytes."""
    network = tmp_path / 'student.onnx'
    network.write_bytes(b'bytes')
    manifest = ClassifierManifest(
        name='kd',
        architecture='mobilenetv2_050',
        parameters=7,
        classes=('mel', 'nv'),
        input=InputSpec((64, 48), 'area', 'RGB', (1.0,) * 3, (2.0,) * 3),
        temperature=1.25,
        threshold=Threshold(0.75, 'a rule', 0.5, 0.9375, 32),
        files=dict(fp32=file_spec(network, 'tensor', 'logits')),
        source=dict(run='kd', checkpoint='a.pth', epoch=3, seed=None),
        metrics=dict(val=dict(balanced_accuracy=0.5), test=None),
        checks=dict(),
        calibration_images=0,
        licence='of the data',
        notice='no diagnostic device',
        created='2026-01-02T03:04:05+00:00',
    )
    write_manifest(manifest, tmp_path)
    return tmp_path


def test_comes_back_as_it_was(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest == read_manifest(folder / 'manifest.json')
    assert manifest.input.size == (64, 48)
    assert manifest.classes == ('mel', 'nv')
    assert manifest.threshold.accuracy == 0.9375
    assert manifest.file_of(folder, 'fp32').read_bytes() == b'bytes'
    write_manifest(manifest, folder)
    assert read_manifest(folder) == manifest


def _rewrite(folder: Path, change) -> None:
    path = folder / 'manifest.json'
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


TOP = (
    'created name architecture parameters classes input temperature '
    'threshold files source metrics checks calibration_images '
    'licence notice task'
).split()


@pytest.mark.parametrize('key', TOP)
def test_missing_keys_are_named(folder: Path, key: str) -> None:
    _rewrite(folder, lambda data: data.pop(key))
    wanted = 'must|should' if key == 'task' else 'Field required'
    with pytest.raises(UserError, match=f'manifest.json: {key}: .*{wanted}') as told:
        read_manifest(folder)
    assert '\n' not in str(told.value)


@pytest.mark.parametrize(
    ('keys', 'value'),
    [
        ('parameters', -1),
        ('parameters', True),
        ('classes', ['mel']),
        ('classes', ['mel', 'mel']),
        ('classes', 'mel'),
        ('temperature', 0),
        ('temperature', None),
        ('temperature', '1'),
        ('temperature', float('inf')),
        ('files', {}),
        ('files', []),
        ('input.size', [64]),
        ('input.size', [64, 0]),
        ('input.size', [64, 2.5]),
        ('input.resize', 'bilinear'),
        ('input.resize', ['area']),
        ('input.colour', 'BGR'),
        ('input.mean', [0, 0]),
        ('input.std', [1, 0, 1]),
        ('threshold.probability', 1.5),
        ('threshold.coverage', None),
        ('files.fp32.path', '../student.onnx'),
        ('files.fp32.path', '/etc/passwd'),
        ('files.fp32.path', 'C:student.onnx'),
        ('files.fp32.path', '..'),
        ('files.fp32.sha256', 'abc'),
        ('files.fp32.takes', 'text'),
        ('files.fp32.gives', {}),
        ('files.fp32.path', 'a/../../student.onnx'),
        ('files.fp32.path', 'student.onnx\n'),
        ('files.fp32.path', '\0'),
        ('files.fp32.path', 'x' * 300),
        ('files.fp32.bytes', -1),
        ('notice', ''),
        ('classes', []),
        ('classes', ['mel', '']),
        ('classes', ['mel', '\x1b[2J']),
        ('classes', ['mel', 3]),
        ('input.size', [1, 10**9]),
        ('input.size', [31623, 31623]),
        ('input.size', [64, True]),
        ('input.std', [1, -1, 1]),
        ('input.std', [1, 1, 1e-320]),
        ('input.mean', ['0', 0, 0]),
        ('temperature', -1),
        ('temperature', 1e-320),
        ('temperature', 1e300),
        ('threshold.probability', '0.5'),
        ('threshold.n', 1.5),
        ('metrics', dict(val=dict(a='high'))),
        ('metrics', []),
        ('source', None),
    ],
)
def test_wrong_values_are_named(folder: Path, keys: str, value) -> None:
    *way, last = keys.split('.')

    def change(data: dict) -> None:
        for key in way:
            data = data[key]
        data[last] = value

    _rewrite(folder, change)
    told = 'damaged' if value == float('inf') else f'json: {keys}[.:]'
    if keys in ('input.mean', 'input.std') and len(value) < 3:
        told = 'json: input: mean and std must have a number for each of the 3'
    with pytest.raises(UserError, match=told) as error:
        read_manifest(folder)
    assert '\n' not in str(error.value)


def test_numbers_beyond_all_bounds_are_refused(folder: Path) -> None:
    text = (folder / 'manifest.json').read_text()
    for old in ('"temperature": 1.25', '"probability": 0.75'):
        (folder / 'manifest.json').write_text(
            text.replace(old, old.split(':')[0] + ': 1e999')
        )
        with pytest.raises(UserError, match='temperature|threshold.probability'):
            read_manifest(folder)


@pytest.fixture
def segmentor(folder: Path) -> Path:
    """The same of a segmentor of CT slices."""
    data = json.loads((folder / 'manifest.json').read_text())
    data.pop('temperature')
    data.update(task='segmentation', threshold=0.5)
    data['input'].update(
        colour='grey', mean=[1.0], std=[2.0], bits=16, window=[424, 1500.0]
    )
    (folder / 'manifest.json').write_text(json.dumps(data))
    return folder


def test_a_segmentor_comes_back_as_it_was(segmentor: Path) -> None:
    manifest = read_manifest(segmentor)
    assert isinstance(manifest, SegmentorManifest)
    assert manifest.threshold == 0.5 and manifest.task == 'segmentation'
    assert manifest.input.window == (424, 1500.0)
    assert manifest.input.channels == 1
    write_manifest(manifest, segmentor)
    assert read_manifest(segmentor) == manifest


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        (dict(task='detection'), 'task: '),
        (dict(task=['segmentation']), 'task: '),
        (dict(threshold=1), 'threshold: '),
        (dict(threshold={}), 'threshold: '),
        (dict(temperature=1.0), 'temperature is no known key'),
        (dict(input=dict(bits=12)), 'input.bits: '),
        (dict(input=dict(window=[1, 0])), 'input.window'),
        (dict(input=dict(window=1)), 'input.window'),
        (dict(input=dict(mean=[1, 2, 3])), 'input: mean and std must have a number'),
        (dict(input=dict(colour='RGB')), 'input: mean and std must have a number'),
    ],
)
def test_wrong_values_of_a_segmentor_are_named(
    segmentor: Path, change: dict, told: str
) -> None:
    inner = change.pop('input', {})

    def apply(data: dict) -> None:
        data.update(change)
        data['input'].update(inner)

    _rewrite(segmentor, apply)
    with pytest.raises(UserError, match=told):
        read_manifest(segmentor)


def test_unknown_keys_are_named(folder: Path) -> None:
    before = (folder / 'manifest.json').read_text()
    _rewrite(folder, lambda data: data['input'].update(crop=1))
    with pytest.raises(UserError, match='input.crop is no known key'):
        read_manifest(folder)
    (folder / 'manifest.json').write_text(before)
    _rewrite(folder, lambda data: data['files'].update(int4={}))
    with pytest.raises(UserError, match='files.int4'):
        read_manifest(folder)


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{',
        'null',
        '[1]',
        '{"format": "other"}',
        '[' * 100_000,
        '{"format": "hkd_mm", "format_version": 3, "temperature": NaN}',
    ],
)
def test_damaged_files_are_refused(folder: Path, text: str) -> None:
    (folder / 'manifest.json').write_text(text)
    with pytest.raises(UserError, match='manifest.json'):
        read_manifest(folder)


def test_bytes_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / 'manifest.json').write_bytes(b'\xff\xfe\x00{')
    with pytest.raises(UserError, match='damaged'):
        read_manifest(folder)


def test_another_version_is_refused(folder: Path) -> None:
    _rewrite(folder, lambda data: data.update(format_version=4))
    with pytest.raises(UserError, match='format_version 4; this hkd_mm reads'):
        read_manifest(folder)
    _rewrite(folder, lambda data: data.update(format_version=2))
    with pytest.raises(UserError, match='"sure" is now called "confident"'):
        read_manifest(folder)


def test_a_folder_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='manifest.json does not exist'):
        read_manifest(tmp_path)


@pytest.mark.parametrize('content', [b'byteS', b'byte', None])
def test_changed_files_are_refused(folder: Path, content) -> None:
    network = folder / 'student.onnx'
    network.unlink() if content is None else network.write_bytes(content)
    manifest = read_manifest(folder)
    with pytest.raises(UserError, match='student.onnx is'):
        manifest.file_of(folder, 'fp32')
    with pytest.raises(UserError, match='lists no "int8"; it has fp32'):
        manifest.file_of(folder, 'int8')


def test_nothing_is_written_of_a_manifest_that_is_wrong(
    folder: Path,
) -> None:
    from dataclasses import replace

    manifest = read_manifest(folder)
    (folder / 'manifest.json').unlink()
    for wrong in (
        dict(temperature=float('nan')),
        dict(metrics=dict(val=float('nan'))),
        dict(classes=('mel',)),
    ):
        with pytest.raises(UserError):
            write_manifest(replace(manifest, **wrong), folder)
    (folder / 'student.onnx').write_bytes(b'other')
    with pytest.raises(UserError, match='export it again'):
        write_manifest(manifest, folder)
    assert [path.name for path in folder.iterdir()] == ['student.onnx']


def test_deep_nesting_is_told_whatever_the_recursion_limit_is(tmp_path):
    (tmp_path / 'manifest.json').write_text('[' * 5_000_000)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000_000)
    try:
        with pytest.raises(UserError, match='is damaged'):
            read_manifest(tmp_path)
    finally:
        sys.setrecursionlimit(before)


def test_a_manifest_of_absurd_length_is_refused(folder: Path) -> None:
    with (folder / 'manifest.json').open('r+b') as file:
        file.truncate(10**10)
    with pytest.raises(UserError, match='longer than any manifest'):
        read_manifest(folder)


def test_links_lead_nowhere_but_where_the_manifest_is(folder: Path) -> None:
    """As in the cache of the Hub, where all files are links to one folder."""
    blobs, cache = folder / 'blobs', folder / 'cache'
    blobs.mkdir(), cache.mkdir()
    for name in ('student.onnx', 'manifest.json'):
        (folder / name).rename(blobs / f'hash of {name}')
        (cache / name).symlink_to(blobs / f'hash of {name}')
    manifest = read_manifest(cache)
    assert manifest.file_of(cache, 'fp32').read_bytes() == b'bytes'
    (folder / 'elsewhere').write_bytes(b'bytes')
    (cache / 'student.onnx').unlink()
    (cache / 'student.onnx').symlink_to(folder / 'elsewhere')
    with pytest.raises(UserError, match='is a link to another folder'):
        manifest.file_of(cache, 'fp32')
