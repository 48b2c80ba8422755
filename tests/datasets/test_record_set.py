# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Records are read once a process, and never when they have changed."""

import json
import os
import time

import pytest

from hkd_mm.datasets import skin_disease
from hkd_mm.datasets import skin_disease as record_set
from hkd_mm.datasets.records import SPLITS
from hkd_mm.datasets.skin_disease import SkinDisease
from hkd_mm.datasets.split_file import write_split
from hkd_mm.datasets.splits import draw_split
from hkd_mm.errors import UserError

pytestmark = pytest.mark.usefixtures('in_tmp')
CLASSES = ['A', 'B']


@pytest.fixture
def root(tmp_path, write_image):
    for i in range(40):
        write_image(tmp_path / 'data' / 'AB'[i % 2] / f'{i}.png', i)
    return tmp_path / 'data'


@pytest.fixture
def readings(monkeypatch):
    """What was read from the disk: record lists and split files."""
    found = []

    def count(module, name):
        function = getattr(module, name)

        def counted(*args):
            found.append(name)
            return function(*args)

        monkeypatch.setattr(module, name, counted)

    monkeypatch.setattr(record_set, '_known', {})
    count(skin_disease, 'check_records')
    count(record_set, 'find_split')
    return found


def settle(*places):
    """As if they had been written a minute ago."""
    then = time.time() - 60
    for place in places:
        for path in [place, *place.rglob('*')]:
            os.utime(path, (then, then))


def opened(root, **kwargs):
    return [SkinDisease(str(root), s, classes=CLASSES, **kwargs)
            for s in SPLITS]  # fmt: skip


def test_what_has_settled_is_read_once(root, readings, tmp_path):
    opened(root)
    settle(tmp_path)
    readings.clear()
    parts = opened(root) + opened(root)
    assert readings == ['check_records', 'find_split']
    assert [len(part) for part in parts[:3]] == [len(p) for p in parts[3:]]
    assert parts[0].records() is parts[5].records()


def test_what_was_written_just_now_is_read_again(root, readings):
    later = time.time() + 100  # however slow this machine is
    for path in [root, *root.rglob('*')]:
        os.utime(path, (later, later))
    opened(root)
    assert readings == ['check_records', 'find_split'] * 3


@pytest.mark.parametrize('change', ['add', 'remove', 'rename', 'folder'])
def test_a_change_of_the_images_is_seen(root, readings, tmp_path, write_image, change):
    before = opened(root)[0]
    settle(tmp_path)
    assert SkinDisease(str(root), 'all', classes=CLASSES)
    if change == 'add':
        write_image(root / 'A/new.png', 99)
    elif change == 'remove':
        (root / 'A/0.png').unlink()
    elif change == 'rename':
        (root / 'A/0.png').rename(root / 'A/renamed.png')
    else:
        write_image(root / 'B/deep/er/1.png', 99)
    after = SkinDisease(str(root), 'all', classes=CLASSES)
    names = {path.relative_to(root).with_suffix('').as_posix()
             for path in root.rglob('*.png')}  # fmt: skip
    assert set(after.sample_ids()) == names
    assert after.split_hash != before.split_hash


def test_a_table_that_changes_in_place_is_seen(root, tmp_path, write_table):
    table = root / 'annotations.csv'
    rows = [dict(image=f'{"AB"[i % 2]}/{i}', label='AB'[i % 2], age=1)
            for i in range(40)]  # fmt: skip
    write_table(table, rows)
    settle(tmp_path)
    first = SkinDisease(str(root), 'all', classes=CLASSES)
    text = table.read_bytes()
    assert first.records()[0].metadata == dict(age='1')
    with table.open('r+b') as stream:  # the folder's time stays
        stream.write(text.replace(b',1\r\n', b',2\r\n'))
    again = SkinDisease(str(root), 'all', classes=CLASSES)
    assert again.records()[0].metadata == dict(age='2')


def test_a_split_file_that_changes_is_seen(root, tmp_path):
    opened(root, split_file='s.json')
    settle(tmp_path)
    opened(root, split_file='s.json')
    opened(root, split_file='s.json')
    document = json.loads((tmp_path / 's.json').read_text())
    document['train'][0] = document['val'][0]
    write_split(document, tmp_path / 's.json')
    with pytest.raises(UserError, match='is in train and in val'):
        opened(root, split_file='s.json')


def test_other_classes_are_other_records(root, tmp_path):
    settle(tmp_path)
    opened(root)
    with pytest.raises(UserError, match='has no folder for class "C"'):
        SkinDisease(str(root), 'train', classes=['A', 'B', 'C'])


def test_a_data_set_with_arguments_of_its_own_reads_for_itself(root, tmp_path):
    class Few(SkinDisease):
        def __init__(self, *args, few, **kwargs):
            self.few = few
            super().__init__(*args, **kwargs)

        def _read_records(self, root):
            return super()._read_records(root)[: self.few]

    settle(tmp_path)
    sizes = [len(Few(str(root), 'all', classes=CLASSES, few=few)) for few in (30, 25)]
    assert sizes == [30, 25]


def test_a_split_file_is_written_as_json_does(root, tmp_path):
    document = draw_split(
        SkinDisease(str(root), 'all', classes=CLASSES).records(), '80:20'
    )
    document['train'][0] = 'é "quoted", \\ [1]'
    write_split(document, tmp_path / 's.json')
    expected = json.dumps(document, indent=1) + '\n'
    assert (tmp_path / 's.json').read_text() == expected
