# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Near duplicates, the groups they make, and the table of them."""

import csv
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hkd_mm.data_tools.duplicates import joined_names, near_pairs, pairs_within
from hkd_mm.datasets.records import SPLITS, Record
from hkd_mm.datasets.skin_disease import SkinDisease

pytestmark = pytest.mark.usefixtures('in_tmp')


def alike_hashes(count, seed):
    """Hashes in clusters: a few bits flipped of forty."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 2**64, 40, np.uint64)[rng.integers(0, 40, count)]
    for _ in range(4):
        bits = np.uint64(1) << rng.integers(0, 64, count, np.uint64)
        found ^= np.where(rng.random(count) < 0.5, bits, np.uint64(0))
    return found


def brute_force(hashes, near):
    return [
        (i, j, bits)
        for j in range(len(hashes))
        for i in range(j)
        if (bits := (int(hashes[i]) ^ int(hashes[j])).bit_count()) <= near
    ]


@pytest.mark.parametrize('near', [0, 1, 2, 3, 7, 31, 32, 64])
def test_pairs_are_those_of_all_comparisons(near):
    hashes = alike_hashes(200, near)
    found = [array.tolist() for array in pairs_within(hashes, near)]
    assert list(zip(*found)) == sorted(brute_force(hashes, near))
    assert near == 0 or found[0]


def test_no_hashes_are_no_pairs():
    for count in (0, 1):
        found = pairs_within(np.zeros(count, np.uint64), 2)
        assert [len(array) for array in found] == [0, 0, 0]


def test_equal_files_and_one_lesion_are_no_near_duplicates():
    def record(name, lesion=None):
        return Record(name, name, 'A', lesion)

    records = [record('a'), record('copy'), record('b'), record('lost'),
               record('c', 'L'), record('d', 'L')]  # fmt: skip
    hashes = dict(a=0, copy=0, b=1, lost=None, c=3, d=3)
    found = {
        name: dict(sha256='a' if name == 'copy' else name, phash=value)
        for name, value in hashes.items()
    }
    assert near_pairs(records, found, 1) == [
        dict(images=['a', 'b'], bits=1),
        dict(images=['b', 'c'], bits=1),
        dict(images=['b', 'd'], bits=1),
    ]


def test_groups_join_lesions_and_links():
    names = 'abcdefg'
    lesions = dict(a='L2', b='L2', c='L1', f='d')
    records = [Record(n, n, 'A', lesions.get(n)) for n in names]
    found = joined_names(records, [('b', 'c'), ('d', 'e')])
    # d and e are no part of the lesion that is called d as well
    assert found == ['L1', 'L1', 'L1', 'd+', 'd+', 'd', None]


def photograph(path, seed):
    """A smooth picture with spots, of its own each."""
    rng = np.random.default_rng(seed)
    grid = rng.uniform(0, 255, (6, 6, 3)).astype(np.float32)
    image = cv2.resize(grid, (160, 160), interpolation=cv2.INTER_CUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(image.clip(0, 255))).save(path, quality=95)
    return path


def copies(path, to):
    """The photograph again: renamed, recompressed, smaller, cropped."""
    image = Image.open(path)
    shutil.copy(path, to / f'{path.stem}_same.jpg')
    image.save(to / f'{path.stem}_again.jpg', quality=60)
    image.resize((100, 100)).save(to / f'{path.stem}_small.png')
    image.crop((1, 1, 159, 159)).save(to / f'{path.stem}_crop.jpg')


@pytest.fixture
def root(tmp_path):
    pytest.importorskip('imagehash')
    for i in range(40):
        path = photograph(tmp_path / 'data' / 'AB'[i % 2] / f'{i}.jpg', i)
        if i % 4 == 0:
            # wrong folders happen: the groups are of both classes
            copies(path, tmp_path / 'data' / 'AB'[i % 8 // 4])
    return tmp_path / 'data'


def verify(tool, *args):
    # crops are up to 10 bits apart, different photographs 18 and more
    args = [*map(str, args), '--near', '10', '--workers', '1']
    return tool('data/verify')(args)


def stems(data):
    return {name.split('/')[1].split('_')[0] for name in data.sample_ids()}


def test_copies_of_a_photograph_are_in_one_part(root, tool, capsys):
    plain = [SkinDisease(str(root), s, classes=['A', 'B']) for s in SPLITS]
    assert stems(plain[0]) & stems(plain[2])  # torn without the groups
    # copies in several parts are an error, and grouped nevertheless
    assert verify(tool, root, '--group', 'g.csv') == 1
    said = capsys.readouterr().out
    assert '50 images in 10 groups of several, 50 of them joined' in said
    assert 'lesions unknown of all images' in said
    words = re.search(r'--cfg-options (.*)', said).group(1).split()
    options = dict(word.split('=') for word in words)
    for seed in range(3):
        parts = [
            SkinDisease(split=s, classes=['A', 'B'], seed=seed, **options)
            for s in SPLITS
        ]
        assert sum(map(len, parts)) == 80
        found = [stems(part) for part in parts]
        assert sum(map(len, found)) == len(set.union(*found)) == 40
    # and once more with the table: nothing is torn, so nothing is found
    assert verify(tool, root, '--ann-file', options['ann_file'],
                  '--json', 'v.json') == 0  # fmt: skip
    report = json.loads(Path('v.json').read_text())
    assert report['leaks'] == report['near_duplicates'] == []


def test_lesions_and_columns_of_a_table_are_kept(root, tool, capsys):
    table = root / 'annotations.csv'
    names = sorted(p.relative_to(root) for p in root.rglob('*.*'))
    with table.open('w', newline='') as stream:
        writer = csv.writer(stream)
        writer.writerow(['image', 'label', 'lesion_id', 'age'])
        for name in names:
            lesion = {'0': 'L1', '1': 'L1'}.get(name.stem, '')
            writer.writerow([name.as_posix(), name.parts[0], lesion, 7])
    verify(tool, root, '--group', 'g.csv')
    with open('g.csv', newline='') as stream:
        rows = {row['image']: row for row in csv.DictReader(stream)}
    assert list(rows) == [name.as_posix() for name in names]
    assert {row['age'] for row in rows.values()} == {'7'}
    # the copies of 0 are of its lesion, of which 1 is as well
    lesion = rows['B/1.jpg']['lesion_id']
    members = [n for n, row in rows.items() if row['lesion_id'] == lesion]
    assert sorted(Path(n).stem for n in members) == [
        '0', '0_again', '0_crop', '0_same', '0_small', '1',
    ]  # fmt: skip
    assert rows['B/3.jpg']['lesion_id'] == ''
    assert verify(tool, root, '--group', 'g.csv') == 2
    assert 'g.csv is there already' in capsys.readouterr().err


def test_a_split_that_tears_groups_is_left_out(root, tool, capsys):
    for part in ('train', 'val'):
        for name in 'AB':
            (root / part / name).mkdir(parents=True)
    for number, path in enumerate(sorted(root.glob('?/*'))):
        part = ('train', 'val')[number % 2]
        path.rename(root / part / path.parent.name / path.name)
    for name in 'AB':
        (root / name).rmdir()
    verify(tool, root, '--group', root / 'annotations.csv')
    said = capsys.readouterr().out
    assert 'groups are in several parts of the split' in said
    assert said.rstrip().endswith(f'--cfg-options data_root={root}')
    data = SkinDisease(str(root), 'all', classes=['A', 'B'])
    assert len(data) == 80 and not any(r.split for r in data.records())
