# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images that are linked in any way are in one group."""

import json

from mmengine.registry import init_default_scope
from PIL import Image

from hkd_mm.data_tools.duplicates import write_groups
from hkd_mm.datasets import SkinDisease
from hkd_mm.datasets.records import SPLITS, group_names, kind_of

BOTH = ('lesion_id', 'patient_id')


def test_one_column_keeps_its_names():
    values = [('a',), ('b',), ('NA',), (' a ',), (None,), ('',), ('-',)]
    assert group_names(BOTH[:1], values) == (['a', 'b', None, 'a', None, None, None])


def test_lesions_of_a_patient_are_one_group():
    values = [('l1', 'p1'), ('l2', 'p1'), ('l3', 'p2'), ('l3', None)]
    first, second, third, fourth = group_names(BOTH, values)
    assert first == second == 'patient_id=p1'
    assert third == fourth == 'patient_id=p2'


def test_a_chain_links_patients():
    # one lesion under two patient numbers: the numbers are one person
    values = [('l1', 'p2'), ('l1', 'p1'), ('l2', 'p1'), ('l3', 'p3')]
    names = group_names(BOTH, values)
    assert names == ['patient_id=p1'] * 3 + ['patient_id=p3']


def test_a_lesion_and_a_patient_of_one_name_are_two_things():
    values = [('x', None), (None, 'x')]
    assert group_names(BOTH, values) == ['lesion_id=x', 'patient_id=x']


def test_no_group_is_in_two_places():
    values = [(str(i * 7 % 31), str(i * 5 % 17) if i % 3 else None) for i in range(200)]
    names = group_names(BOTH, values)
    for column in (0, 1):
        homes = {}
        for row, name in zip(values, names):
            if row[column] is not None:
                assert homes.setdefault(row[column], name) == name


def test_groups_are_called_by_their_columns():
    assert kind_of(BOTH) == 'lesion and patient'
    assert kind_of(['patient_id']) == 'patient'


def test_no_patient_and_no_lesion_is_on_two_sides(tmp_path):
    lines = ['image,label,lesion_id,patient_id']
    (tmp_path / 'images').mkdir()
    for i in range(120):
        Image.new('RGB', (8, 8), (i, i, i)).save(tmp_path / f'images/{i}.png')
        lines.append(f'{i},{"ab"[i % 2]},l{i // 2},p{i // 8}')
    (tmp_path / 'annotations.csv').write_text('\n'.join(lines))
    init_default_scope('mmpretrain')
    homes = {}
    for split in SPLITS:
        data = SkinDisease(
            data_root=str(tmp_path),
            split=split,
            classes=['a', 'b'],
            split_file=str(tmp_path / 'split.json'),
        )
        for index in range(len(data)):
            info = data.get_data_info(index)
            patient = info['metadata']['patient_id']
            assert homes.setdefault(patient, split) == split
            assert info['lesion_id'] == f'patient_id={patient}'
    assert len(homes) == 15 and set(homes.values()) == set(SPLITS)
    document = json.loads((tmp_path / 'split.json').read_text())
    assert document['grouped_by'] == 'lesion_id and patient_id'


def test_groups_that_are_written_are_those_that_are_read(tmp_path):
    """Joined copies stay joined beside the lesions of the table."""
    (tmp_path / 'images').mkdir()
    lines = ['image,label,lesion_id,patient_id']
    for i in range(4):
        Image.new('RGB', (8, 8), (i, i, i)).save(tmp_path / f'images/{i}.png')
        lines.append(f'{i},{"ab"[i % 2]},l{i},p{i}')
    (tmp_path / 'annotations.csv').write_text('\n'.join(lines))
    data = SkinDisease(data_root=str(tmp_path), classes=['a', 'b'])
    records = data.read_records(tmp_path)
    report = dict(duplicates=[['0', '3']], near_duplicates=[])
    write_groups(records, report, str(tmp_path), str(tmp_path / 'g.csv'))
    again = SkinDisease(
        data_root=str(tmp_path), classes=['a', 'b'], ann_file='g.csv'
    ).read_records(tmp_path)
    names = {record.sample_id: record.lesion_id for record in again}
    assert names['0'] == names['3']
    assert len(set(names.values())) == 3
