# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A store is whole, is ours, or is refused by name."""

import json
import os
import shutil

import numpy as np
import pytest

from hkd_mm.datasets.packed.store import PackedStore, read_ids, seal, sha256
from hkd_mm.errors import UserError

FILES = ('pixels.bin', 'crc32.bin', 'rows.json', 'header.json')


@pytest.fixture
def folder(packed):
    return packed().store.folder


def _refused(packed, name):
    with pytest.raises(UserError) as caught:
        packed()
    message = str(caught.value)
    assert name in message and 'built again' in message
    assert '\n' not in message
    return message


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('place', [0.0, 0.5, 0.999])
def test_one_flipped_byte_is_found(packed, folder, name, place):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    message = _refused(packed, name)
    if name == 'pixels.bin':
        assert read_ids(folder)[int(place * 36)] in message


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('kept', [0, 40])
def test_a_truncated_file_is_refused(packed, folder, name, kept):
    path = folder / name
    path.write_bytes(path.read_bytes()[:kept])
    _refused(packed, name)


@pytest.mark.parametrize('name', FILES[:3])
def test_a_missing_file_is_refused(packed, folder, name):
    (folder / name).unlink()
    _refused(packed, name)


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('make', [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(packed, folder, name, make):
    (folder / name).unlink()
    make(folder / name)
    _refused(packed, name)


def test_a_store_of_other_images_is_refused(packed, folder, tmp_path, packed_root):
    other = shutil.copytree(packed_root, tmp_path / 'elsewhere' / 'data')
    next(other.rglob('*.png')).unlink()
    foreign = packed(data_root=other, store_dir='foreign').store.folder
    shutil.rmtree(folder)
    shutil.copytree(foreign, folder)
    assert 'foreign' in _refused(packed, 'header.json')


def test_a_header_of_another_kind_is_refused(packed, folder):
    (folder / 'header.json').write_text('{"format": "something else"}')
    _refused(packed, 'header.json')
    header = json.loads((folder / 'rows.json').read_text())
    (folder / 'header.json').write_text(json.dumps(seal(header)))
    _refused(packed, 'header.json')


def test_the_sample_check_reads_a_part(packed, folder):
    path = folder / 'pixels.bin'
    assert len(PackedStore(folder, check='sample')) == 36
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(UserError, match='35 others'):
        PackedStore(folder, check='sample')


def test_the_hash_tells_pixels_and_not_times(packed, folder, packed_root):
    first = PackedStore(folder)
    for path in packed_root.rglob('*.png'):
        path.touch()
    second = packed().store
    assert second.folder != folder and second.hash == first.hash
    assert packed(size=17).store.hash != first.hash


def test_the_map_is_the_file(packed, folder):
    store = packed().store
    pixels = np.fromfile(folder / 'pixels.bin', np.uint8)
    assert (store.pixels.numpy().ravel() == pixels).all()
    assert read_ids(folder) == store.ids == sorted(store.ids)


@pytest.mark.parametrize(
    'change',
    [
        dict(count=-1),
        dict(count=10**18),
        dict(count='36'),
        dict(count=True),
        dict(side=0),
        dict(side=10**9),
        dict(side='16'),
        dict(side=1e400),
        dict(masks=[]),
        dict(masks=dict(channels=7, bits=16, classes=2, version=2)),
        dict(key=None),
        dict(rows_sha256=7),
        dict(hair_removal='x'),
    ],
)
def test_a_header_of_absurd_values_is_refused(packed, folder, change):
    path = folder / 'header.json'
    header = json.loads(path.read_text())
    del header['header_hash']
    path.write_text(json.dumps(seal({**header, **change})))
    _refused(packed, 'header.json')


@pytest.mark.parametrize(
    'rows', [b'[]', b'{"ids": 3}', b'{"ids": [1, 2]}', b'{"ids": ["a"]}', b'{}', b'7']
)
def test_rows_of_other_kinds_are_refused(packed, folder, rows):
    path = folder / 'header.json'
    header = json.loads(path.read_text())
    del header['header_hash']
    (folder / 'rows.json').write_bytes(rows)
    header['rows_sha256'] = sha256(rows)
    path.write_text(json.dumps(seal(header)))
    _refused(packed, '.json')


@pytest.mark.parametrize('name', FILES)
def test_a_pipe_is_no_store(packed, folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    _refused(packed, name)
