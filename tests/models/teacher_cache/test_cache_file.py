# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A cache returns what was written, or says which file is wrong."""

import json
import multiprocessing
import os
import time

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.teacher_cache import CacheFile, CacheIndex, TeacherCache

FORK = multiprocessing.get_context('fork')  # begins at once
ARRAYS = dict(logits=((3,), 'float32'), feature=((2, 2, 2), 'float16'))
PARTS = dict(teacher='abc', class_order='a,b,c')


def cache(folder, **changes):
    kwargs = dict(parts=PARTS, arrays=ARRAYS, num_views=2, num_rows=5)
    return CacheFile(folder, **{**kwargs, **changes})


def values(count, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=(count, *shape)).astype(dtype)
        for name, (shape, dtype) in ARRAYS.items()
    }


def test_what_is_written_is_read_by_the_next_process_too(tmp_path):
    written, rows = values(3), np.array([4, 0, 2])
    one = cache(tmp_path)
    assert not one.is_complete(1, rows)
    one.write(1, rows, written)
    one.flush()
    for found in (one, cache(tmp_path)):
        assert found.is_complete(1, rows) and not found.is_complete(0, rows)
        read = found.read(1, rows[::-1])
        for name in ARRAYS:
            assert np.array_equal(read[name], written[name][::-1])
        assert found.verify() == 0 and found.count() == 3


def test_an_entry_that_is_there_stays(tmp_path):
    found = cache(tmp_path)
    first = values(2)
    assert found.write(0, np.array([0, 1]), first)
    assert not found.write(0, np.array([1, 2]), values(2, seed=1))
    assert np.array_equal(found.read(0, np.array([1]))['logits'][0], first['logits'][1])
    assert found.count() == 3


def test_an_image_that_comes_twice_is_stored_once(tmp_path):
    found, twice = cache(tmp_path), values(2)
    assert not found.write(0, np.array([4, 4]), twice)
    read = found.read(0, np.array([4, 4]))
    for name in ARRAYS:
        assert np.array_equal(read[name][0], twice[name][0])
    assert found.verify() == 0 and found.count() == 1


def write_on(folder) -> None:
    """Write until the process is killed."""
    found = cache(folder)
    while True:
        for seed in range(100):
            found.write(seed % 2, np.arange(5), values(5, seed))
            if seed % 4 == 0:
                found._done[:] = 0  # the next one writes over it


def test_a_writer_killed_at_any_moment_leaves_whole_entries(tmp_path):
    cache(tmp_path)
    marked = 0
    for number in range(60):
        if number >= 5 and marked:
            break
        writer = FORK.Process(target=write_on, args=(tmp_path,))
        writer.start()
        while not np.fromfile(tmp_path / 'done.u8', 'uint8').any():
            assert writer.is_alive()
        time.sleep(number % 5 * 0.003)
        writer.kill()
        writer.join()
        found = cache(tmp_path)
        marked += found.count()
        assert found.verify() == 0
        found._done[:] = 0
    assert marked


def test_size_is_told_before_and_is_that_of_the_files(tmp_path):
    cache(tmp_path)
    on_disk = sum(
        file.stat().st_size
        for file in tmp_path.iterdir()
        if file.suffix in ('.bin', '.u8', '.u32')
    )
    assert CacheFile.size_of(ARRAYS, 2, 5) == on_disk == 2 * 5 * (12 + 16 + 5)


@pytest.mark.parametrize('file', ['logits.bin', 'feature.bin', 'crc.u32'])
def test_one_flipped_bit_is_found(tmp_path, file):
    found = cache(tmp_path)
    found.write(1, np.array([3, 0]), values(2))
    found.flush()
    data = bytearray((tmp_path / file).read_bytes())
    data[len(data) * 8 // 10 + 1] ^= 1  # inside view 1, row 3
    (tmp_path / file).write_bytes(data)
    found = cache(tmp_path)
    assert found.verify() == 1 and found.count() == 1
    assert not found.is_complete(1, np.array([3]))
    assert found.verify() == 0
    assert found.write(1, np.array([3]), values(1))  # fills again
    assert found.verify() == 0 and found.count() == 2


@pytest.mark.parametrize('file', ['logits.bin', 'done.u8', 'crc.u32'])
def test_a_truncated_file_is_named(tmp_path, file):
    cache(tmp_path)
    with (tmp_path / file).open('r+b') as stream:
        stream.truncate(7)
    with pytest.raises(UserError, match=f'{file} is truncated: 7 bytes'):
        cache(tmp_path)


@pytest.mark.parametrize(
    'change, name',
    [
        (dict(parts=dict(PARTS, teacher='xyz')), 'another teacher'),
        (dict(parts=dict(PARTS, class_order='b,a,c')), 'another class order'),
        (dict(num_views=3), 'another num views'),
        (dict(num_rows=6), 'another num rows'),
        (dict(arrays=dict(logits=((4,), 'float32'))), 'another arrays'),
    ],
)
def test_a_foreign_cache_is_refused_by_name(tmp_path, change, name):
    cache(tmp_path)
    with pytest.raises(UserError, match=name):
        cache(tmp_path, **change)


@pytest.mark.parametrize(
    'content',
    [
        b'{',
        b'',
        b'[1]',
        b'null',
        b'{"parts": 3}',
        b'{"parts": [["a", "b"]]}',
        b'{"parts": {"a": "\xff"}}',
        b'[' * 100_000,
        b'{"parts": {}, "num_views": ' + b'9' * 5000 + b'}',
    ],
    ids=lambda content: content[:30].decode(errors='replace'),
)
def test_a_damaged_header_is_named(tmp_path, content):
    cache(tmp_path)
    (tmp_path / 'header.json').write_bytes(content)
    with pytest.raises(UserError, match='header.json is damaged; delete its folder'):
        cache(tmp_path)


@pytest.mark.parametrize('value', [-1, 10**300, 1e400, '2', None, [[2]]])
def test_an_absurd_number_in_a_header_is_another(tmp_path, value):
    cache(tmp_path)
    path = tmp_path / 'header.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(num_views=value)))
    with pytest.raises(UserError, match='was made with another num views'):
        cache(tmp_path)


def test_a_class_whose_name_is_no_utf_8_is_known_again(tmp_path):
    parts = dict(PARTS, class_order='a,\udcff')
    cache(tmp_path, parts=parts)
    assert cache(tmp_path, parts=parts).count() == 0
    with pytest.raises(UserError, match='another class order'):
        cache(tmp_path)


def test_marks_of_no_kind_are_no_entries(tmp_path):
    found = cache(tmp_path)
    found.write(1, np.array([3]), values(1))
    found.flush()
    (tmp_path / 'done.u8').write_bytes(b'\xff' * 10)
    found = cache(tmp_path)
    assert found.verify() == 9 and found.count() == 1


def test_what_a_killed_process_left_is_made_again(tmp_path):
    (tmp_path / 'logits.bin').write_bytes(b'x' * 10_000)
    os.mkfifo(tmp_path / 'feature.bin')
    assert cache(tmp_path).count() == 0


@pytest.mark.parametrize('kind', ['file', 'fifo', 'device', 'below a file', 'long'])
def test_a_folder_that_cannot_be_is_one_line_with_its_key(tmp_path, kind):
    path = tmp_path / 'here'
    if kind == 'device':
        path = '/dev/null'
    elif kind == 'fifo':
        os.mkfifo(path)
    elif kind == 'long':
        path = path / ('x' * 300)
    else:
        path.write_text('')
    if kind == 'below a file':
        path /= 'folder'
    found = TeacherCache(num_views=2, dir=str(path))
    logits = dict(logits=torch.zeros(1, 3))
    with pytest.raises(UserError, match='model.teacher_cache.dir=') as told:
        found.open(PARTS, logits, {'logits'}, CacheIndex(torch.arange(5)))
    assert '\n' not in str(told.value)


@pytest.mark.parametrize(
    'name, value',
    [
        ('num_views', -1),
        ('num_views', 10**9),
        ('num_views', 2.5),
        ('num_views', None),
        ('dir', ''),
        ('dir', 'a\0b'),
        ('budget_gb', -1.0),
        ('features', 'float8'),
        ('check', -1),
        ('tolerance', float('nan')),
    ],
)
def test_settings_of_no_sense_are_refused_by_their_key(name, value):
    with pytest.raises(UserError, match=f'model.teacher_cache.{name}'):
        TeacherCache(**{name: value})
