# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Split files are written whole, read again and held against the data."""

import json

import pytest

from hkd_mm.datasets.records import Record
from hkd_mm.datasets.split_file import (
    default_split_file,
    find_split,
    read_split,
    write_split,
)
from hkd_mm.datasets.splits import draw_split
from hkd_mm.errors import UserError

pytestmark = pytest.mark.usefixtures('in_tmp')


def _records(number=40):
    return [
        Record(f'{i}', '', 'ab'[i % 2], f'L{i // 4 * 2 + i % 2}') for i in range(number)
    ]


def test_a_split_is_drawn_once_and_read_afterwards(tmp_path):
    records = _records()
    first = find_split(records, 'mine', None, (0.8, 0.1, 0.1), 42)
    path = default_split_file('mine', records, (0.8, 0.1, 0.1), 42)
    name = f'mine-{first["data_hash"][:8]}-80-10-10-seed42.json'
    assert (tmp_path / 'work_dirs' / 'splits' / name).samefile(path)
    assert set(first) == {
        'version', 'dataset', 'ratios', 'seed', 'grouped_by', 'counts',
        'data_hash', 'hash', 'train', 'val', 'test',
    }  # fmt: skip
    # What the file says is used, not what would be drawn now.
    moved = dict(first, train=first['train'] + first['val'], val=[])
    from hkd_mm.datasets.splits import assignment_hash

    moved['hash'] = assignment_hash(moved)
    write_split(moved, path)
    assert find_split(records, 'mine', None, (0.8, 0.1, 0.1), 42) == moved


def _edit(document, **changes):
    return {**document, **changes}


def test_each_mistake_in_a_split_file_is_named(tmp_path):
    records = _records()
    good = draw_split(records, '50:25:25')
    train, val = good['train'], good['val']
    lesion = {r.sample_id: r.lesion_id for r in records}
    pair = next(
        [i for i in train if lesion[i] == lesion[j]]
        for j in train
        if sum(lesion[i] == lesion[j] for i in train) > 1
    )
    cases = [
        (dict(hash=None, train=train[1:]), 'changed by hand'),
        (dict(data_hash='0' * 64), 'other data'),
        (dict(val=[*val, train[0]]), f'image {train[0]} is in train and in'),
        (
            dict(
                train=[i for i in train if i != pair[0]],
                val=[*val, pair[0]],
            ),
            f'lesion {lesion[pair[0]]} is in',
        ),
    ]
    for changes, message in cases:
        path = tmp_path / 'edited.json'
        write_split(_edit(good, **changes), path)
        with pytest.raises(UserError, match=message) as caught:
            find_split(records, 'mine', str(path), '80:10:10', 42)
        assert 'edited.json' in str(caught.value)
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'text, message',
    [
        ('{"version": 1}', 'data_hash: Field required; name a split file'),
        ('[1, 2]', 'its content: Input should be an object'),
        ('{"version": ', 'Expecting value'),
    ],
)
def test_a_file_that_is_no_split_is_refused(tmp_path, text, message):
    path = tmp_path / 'other.json'
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        find_split(_records(), 'mine', str(path), '80:10:10', 42)


def test_other_data_do_not_take_the_split_of_this(tmp_path):
    path = str(tmp_path / 'split.json')
    find_split(_records(), 'mine', path, '80:10:10', 42)
    with pytest.raises(UserError, match='other data'):
        find_split(_records(44), 'mine', path, '80:10:10', 42)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='split_file=FILE'):
        write_split(draw_split(_records()), tmp_path / 'file' / 'split.json')


def test_a_written_split_leaves_nothing_else(tmp_path):
    document = draw_split(_records())
    write_split(document, tmp_path / 'here' / 'split.json')
    assert [p.name for p in (tmp_path / 'here').iterdir()] == ['split.json']
    assert read_split(tmp_path / 'here' / 'split.json') == json.loads(
        json.dumps(document)
    )
