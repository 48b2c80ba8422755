# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Class folders, split folders and tables, and each mistake in them."""

import shutil

import numpy as np
import pytest

from hkd_mm.datasets.records import SPLITS
from hkd_mm.datasets.skin_disease import SkinDisease
from hkd_mm.errors import UserError

pytestmark = pytest.mark.usefixtures('in_tmp')

CLASSES = ['Acne', 'Benign', 'Eczema']


def _folders(root, write_image, sizes=(20, 10, 5), above=''):
    for index, (name, number) in enumerate(zip(CLASSES, sizes)):
        for i in range(number):
            write_image(root / above / name / f'{i}.png', index * 100 + i)
    return root


def _table(root, write_image, write_table, number=30, **columns):
    rows = []
    for i in range(number):
        write_image(root / 'images' / f'p{i}.png', i)
        rows.append(
            dict(
                image=f'p{i}',
                label=CLASSES[i % 3],
                lesion_id=f'L{i % 3}-{i // 6}',
                age=i,
                **{key: values[i] for key, values in columns.items()},
            )
        )
    write_table(root / 'annotations.csv', rows)
    return root


def _data(root, split='train', classes=CLASSES, **kwargs):
    return SkinDisease(str(root), split, classes=classes, **kwargs)


def test_the_default_classes_are_the_folders_that_are_there(
    tmp_path, write_image, write_table
):
    names = ['Acne and Rosacea', '2', 'TRUE', 'a,b']
    root = tmp_path / 'folders'
    for number in range(40):
        write_image(root / names[number % 4] / f'{number}.png', number)
    found = _data(root, classes=None).metainfo['classes']
    assert list(found) == sorted(names)
    table = _table(tmp_path / 'table', write_image, write_table)
    found = _data(table, classes=None).metainfo['classes']
    assert list(found) == CLASSES
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty/notes.txt').write_text('')
    with pytest.raises(UserError, match='no class folders and no annot'):
        _data(tmp_path / 'empty', classes=None)


def test_class_folders_are_split_into_three_parts(tmp_path, write_image):
    root = _folders(tmp_path / 'data', write_image)
    parts = {part: _data(root, part) for part in SPLITS}
    assert [len(parts[part]) for part in SPLITS] == [27, 4, 4]
    assert parts['train'].class_counts().tolist() == [16, 8, 3]
    assert parts['train'].class_counts().dtype == np.int64
    assert len({part.split_hash for part in parts.values()}) == 1
    ids = [d['sample_id'] for part in parts.values() for d in part]
    assert len(set(ids)) == 35 == len(_data(root, 'all'))
    sample = parts['train'][0]
    assert sample['img_path'] == str(root / (sample['sample_id'] + '.png'))
    assert CLASSES[sample['gt_label']] in sample['sample_id']
    assert sample['lesion_id'] is None and sample['metadata'] == {}


def test_the_hash_changes_with_the_data(tmp_path, write_image):
    root = _folders(tmp_path / 'data', write_image)
    first = _data(root).split_hash
    assert _data(root).split_hash == first
    (root / 'Acne' / '0.png').rename(root / 'Benign' / 'x.png')
    assert _data(root).split_hash != first


def test_split_folders_are_the_split(tmp_path, write_image):
    root = tmp_path / 'data'
    for above, sizes in (
        ('Train', (6, 4, 2)),
        ('valid', (3, 2, 0)),
        ('test', (1, 1, 1)),
    ):
        _folders(root, write_image, sizes, above)
    assert _data(root).class_counts().tolist() == [6, 4, 2]
    assert _data(root, 'val').class_counts().tolist() == [3, 2, 0]
    assert _data(root, 'test').class_counts().tolist() == [1, 1, 1]
    assert not (tmp_path / 'work_dirs').exists()
    with pytest.raises(UserError, match='leave split_file=None'):
        _data(root, split_file='x.json')


def test_a_table_gives_lesions_and_metadata(tmp_path, write_image, write_table):
    root = _table(tmp_path / 'data', write_image, write_table)
    parts = {part: _data(root, part) for part in SPLITS}
    homes = {}
    for part, data in parts.items():
        for sample in data:
            homes.setdefault(sample['lesion_id'], set()).add(part)
            assert sample['metadata'] == {'age': sample['sample_id'][1:]}
    assert len(homes) == 15 and all(len(h) == 1 for h in homes.values())


def test_a_split_column_is_the_split(tmp_path, write_image, write_table):
    split = ['train' if i < 18 else 'val' if i < 24 else 'test' for i in range(30)]
    root = _table(tmp_path / 'data', write_image, write_table, split=split)
    assert [len(_data(root, part)) for part in SPLITS] == [18, 6, 6]


def test_a_lesion_in_two_given_splits_is_refused(tmp_path, write_image, write_table):
    root = _table(
        tmp_path / 'data',
        write_image,
        write_table,
        split=['train', 'val'] * 15,
    )
    with pytest.raises(UserError, match='lesion L0-0 is in train'):
        _data(root)


def test_paths_suffixes_and_delimiters_of_a_table_may_differ(tmp_path, write_image):
    root = tmp_path / 'data'
    for i in range(12):
        write_image(root / 'photos' / 'x' / f'p{i}.png', i)
    names = ['photos/x/p{}.png', 'p{}.jpg', 'p{}', 'photos/x/p{}.JPG']
    lines = [f'{names[i % 4].format(i)};{CLASSES[i % 3]}' for i in range(12)]
    (root / 'list.csv').write_text('\ufeff Image ; LABEL\n' + '\n'.join(lines) + '\n\n')
    data = _data(root, 'all', ann_file='list.csv')
    assert len(data) == 12
    for sample in data:
        number = ''.join(c for c in sample['sample_id'] if c.isdigit())
        assert sample['img_path'].endswith(f'photos/x/p{number}.png')


def test_files_of_one_name_keep_their_suffix_as_id(tmp_path, write_image):
    root = _folders(tmp_path / 'data', write_image)
    write_image(root / 'Acne' / '0.jpg', 7)
    ids = {sample['sample_id'] for sample in _data(root, 'all')}
    assert {'Acne/0.png', 'Acne/0.jpg', 'Acne/1'} <= ids


def _missing_root(root, table):
    shutil.rmtree(root)


def _empty_root(root, table):
    shutil.rmtree(root)
    root.mkdir()


def _root_is_file(root, table):
    shutil.rmtree(root)
    root.write_text('')


def _edit(old, new):
    def edit(root, table):
        text = table.read_text()
        assert old in text
        table.write_text(text.replace(old, new, 1))

    return edit


TABLE_MISTAKES = [
    (_missing_root, ['data root', 'does not exist', 'data_root=PATH']),
    (_empty_root, ['data root', 'is empty', 'data_root=PATH']),
    (_root_is_file, ['is not a folder']),
    (_edit('label', 'diagnosis'),
     ['annotations.csv', 'no column "label"',
      'found: image, diagnosis, lesion_id, age']),
    (_edit('Benign', 'Bening'),
     ['annotations.csv', 'p1', '"Bening"', 'Acne, Benign, Eczema']),
    (lambda root, table: (root / 'images/p4.png').unlink(),
     ['annotations.csv', 'p4', '1 of 30']),
    (_edit('p5,', 'p4,'), ['p4', 'twice']),
    (_edit(',2\n', '\n'), ['line 4', '"age"']),
    (lambda root, table: table.write_text('image,label\n'), ['no rows']),
    (lambda root, table: table.write_bytes(b'\xff\xfe\x00'),
     ['annotations.csv', 'is UTF-16']),
]  # fmt: skip


@pytest.mark.parametrize('number', range(len(TABLE_MISTAKES)))
def test_each_mistake_in_a_table_is_told_in_one_line(
    tmp_path, write_image, write_table, number
):
    break_it, words = TABLE_MISTAKES[number]
    root = _table(tmp_path / 'data', write_image, write_table)
    break_it(root, root / 'annotations.csv')
    with pytest.raises(UserError) as caught:
        _data(root)
    message = str(caught.value)
    assert '\n' not in message
    for word in words:
        assert word in message


FOLDER_MISTAKES = [
    (lambda root: shutil.rmtree(root / 'Acne'),
     ['no folder for class "Acne"', 'Benign, Eczema', 'classes=']),
    (lambda root: (root / 'Acne').rename(root / 'acnee'),
     ['folder "acnee"', 'rename it to "Acne"']),
    (lambda root: (root / 'Other').mkdir(),
     ['folder "Other"', 'classes=["Acne", "Benign", "Eczema", "Other"]']),
    (lambda root: [p.unlink() for p in (root / 'Acne').iterdir()],
     ['Acne', 'has no image']),
    (lambda root: [shutil.rmtree(root / name) for name in CLASSES]
     + [(root / 'notes.txt').write_text('')],
     ['no class folders', 'annotations.csv']),
]  # fmt: skip


@pytest.mark.parametrize('number', range(len(FOLDER_MISTAKES)))
def test_each_mistake_in_class_folders_is_told_in_one_line(
    tmp_path, write_image, number
):
    break_it, words = FOLDER_MISTAKES[number]
    root = _folders(tmp_path / 'data', write_image)
    break_it(root)
    with pytest.raises(UserError) as caught:
        _data(root)
    message = str(caught.value)
    assert '\n' not in message
    for word in words:
        assert word in message


def test_a_missing_part_is_named(tmp_path, write_image):
    root = _folders(tmp_path / 'data', write_image, above='train')
    _folders(root, write_image, above='test')
    with pytest.raises(UserError, match='convert_class_folders.py'):
        _data(root)


def test_a_training_split_of_one_class_is_refused(tmp_path, write_image, write_table):
    rows = []
    for i in range(8):
        write_image(tmp_path / 'data' / f'p{i}.png', i)
        label, part = ('A', 'train') if i < 6 else ('B', 'val')
        rows.append(dict(image=f'p{i}', label=label, split=part))
    write_table(tmp_path / 'data' / 'annotations.csv', rows)
    with pytest.raises(UserError, match=r'one class only \(A\)'):
        _data(tmp_path / 'data', classes=['A', 'B'])
    with pytest.raises(UserError, match='at least two classes'):
        _data(tmp_path / 'data', classes=['A'])
    with pytest.raises(UserError, match='"A" is listed twice'):
        _data(tmp_path / 'data', classes=['A', 'B', 'A'])
    with pytest.raises(UserError, match='no image of class "C"'):
        _data(tmp_path / 'data', classes=['A', 'B', 'C'])


def test_an_empty_test_part_is_told(tmp_path, write_image):
    root = _folders(tmp_path / 'data', write_image)
    assert len(_data(root, 'val', split_ratios='8:2')) == 7
    with pytest.raises(UserError, match='three split_ratios'):
        _data(root, 'test', split_ratios='8:2')


def test_unknown_words_are_told(tmp_path, write_image):
    root = _folders(tmp_path / 'data', write_image)
    with pytest.raises(UserError, match='train, val, test or all'):
        _data(root, 'valid')
    with pytest.raises(UserError, match='neither a list'):
        _data(root, classes='Acne')


def test_a_file_listed_under_two_names_is_told(tmp_path, write_image, write_table):
    root = _table(tmp_path / 'data', write_image, write_table)
    with open(root / 'annotations.csv', 'a') as stream:
        stream.write('images/p3.png,Acne,L9,3\n')
    with pytest.raises(UserError, match='as p3 and as images/p3.png'):
        _data(root)


def test_two_files_that_could_be_meant_are_told(tmp_path, write_image, write_table):
    root = tmp_path / 'data'
    rows = [dict(image=f'p{i}', label=CLASSES[i % 3]) for i in range(9)]
    for i in range(9):
        write_image(root / 'part_1' / f'p{i}.png', i)
    write_table(root / 'annotations.csv', rows)
    shutil.copytree(root / 'part_1', root / 'Part_1_again')
    assert len(_data(root, 'all')) == 9
    write_image(root / 'Part_1_again' / 'p3.png', 3, size=20)
    with pytest.raises(UserError, match='image p3 could be '):
        _data(root, 'all')
