# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Patients and lesions of a table, also where cells are empty."""

import numpy as np
import pytest

from hkd_mm.datasets.masks.mask_tables import groups_of
from hkd_mm.errors import UserError


def row(patient='', lesion='', **more):
    return dict(patient_id=patient, lesion_id=lesion, **more)


def names(*rows):
    return [group.name for group in groups_of(rows, 'table.csv')]


def test_a_row_is_its_patients_else_its_lesions():
    rows = [row('p', '1'), row('q', '2'), row('', '3'), row()]
    found = groups_of(rows, 'table.csv')
    assert [group.name for group in found] == ['p', 'q', '3', None]
    assert [group.kind for group in found[:3]] == [*['patient'] * 2, 'lesion']


def test_a_row_without_a_patient_is_that_of_the_patient_of_its_lesion():
    assert names(row('', 'L0'), row('p', 'L0'), row('', 'L1')) == [
        'p',
        'p',
        'L1',
    ]


def test_lesions_may_be_numbered_anew_for_each_patient():
    rows = [row('p', '1'), row('q', '1')]
    assert names(*rows) == ['p', 'q']
    with pytest.raises(UserError, match='lesion 1 is of patient p, of q'):
        names(*rows, row('', '1'))


def test_a_lesion_may_be_called_as_a_patient():
    assert names(row('7', '1'), row('', '7')) == ['7', 'lesion 7']


@pytest.mark.parametrize('empty', ['nan', 'NaN', 'None', ''])
def test_what_programs_write_into_empty_cells_is_no_patient(empty):
    assert names(row(empty, empty), row('p', empty)) == [None, 'p']


def test_the_second_column_of_patients_is_read_where_the_first_is_empty():
    rows = [dict(patient_id='', patient='p'), dict(patient_id='q', patient='')]
    assert [group.name for group in groups_of(rows, 't')] == ['p', 'q']


@pytest.fixture
def photographs(tmp_path, save, write_image, write_table, monkeypatch):
    """Twenty photographs of ten lesions; the patients are left empty."""
    monkeypatch.chdir(tmp_path)
    root, rows = tmp_path / 'data', []
    for i in range(20):
        write_image(root / f'Image/a{i:02}.png', seed=i)
        mask = np.zeros((12, 12), np.uint8)
        mask[3:6, 4:9] = 255
        save(root / f'Mask/a{i:02}.png', mask)
        rows.append(row('', f'L{i // 2}', image=f'a{i:02}', mode=''))
    write_table(root / 'split_dataset.csv', rows)
    return root


def test_a_drawn_split_keeps_lesions_whole(photographs, dataset):
    homes = {}
    for part in ('train', 'val', 'test'):
        data = dataset(
            photographs,
            kind='SkinLesionMasks',
            split=part,
            split_ratios=(0.5, 0.25, 0.25),
        )
        for i in range(len(data)):
            name = data.get_data_info(i)['lesion_id']
            homes.setdefault(name, set()).add(part)
    assert len(homes) == 10 and all(len(x) == 1 for x in homes.values())


def test_a_given_split_that_tears_a_lesion_is_refused(photographs, dataset, rewrite):
    def part(row):
        return dict(row, mode='test' if row['image'] == 'a05' else 'train')

    rewrite(photographs, part)
    with pytest.raises(UserError, match='lesion L2 is in train'):
        dataset(photographs, kind='SkinLesionMasks', split='train')


def test_slices_whose_lesion_alone_is_told_are_of_unknown_patients(
    ct_root, dataset, rewrite
):
    def lesions(row):
        return dict(row, patient_id='', lesion_id=f'L{row["patient_id"]}')

    rewrite(ct_root, lesions)
    with pytest.raises(UserError, match='add a column patient_id'):
        dataset(ct_root)
