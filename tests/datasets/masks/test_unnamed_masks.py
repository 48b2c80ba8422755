# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Masks that a table does not name are not dropped in silence."""

import shutil

import pytest

from hkd_mm.errors import UserError


@pytest.fixture
def named_alike(tmp_path, save, write_table, monkeypatch):
    """Six slices and masks of equal names, the last without a mask."""
    import numpy as np

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('hkd_mm.io.progress.default_workers', lambda: 1)
    root = tmp_path / 'ct'
    for number in range(6):
        pixels = np.full((8, 8), 1000 * number, np.uint16)
        save(root / 'Image' / f's{number}.png', pixels)
        if number < 5:
            mask = np.full((8, 8), 65535, np.uint16)
            save(root / 'Mask' / f's{number}.png', mask)

    def table(**columns):
        rows = [
            dict(
                image=f's{n}',
                patient_id=n,
                **{k: v(n) for k, v in columns.items()},
            )
            for n in range(6)
        ]
        write_table(root / 'split_dataset.csv', rows)
        return root

    return table


def test_masks_of_other_names_are_told(named_alike, dataset):
    root = named_alike()
    assert dataset(root).class_counts().tolist() == [1, 5]
    shutil.move(root / 'Mask/s2.png', root / 'Mask/s2_nodule.png')
    with pytest.raises(UserError, match=r's2_nodule.png .*\(1 such masks\)'):
        dataset(root)


def test_a_blank_name_beside_a_mask_is_told(named_alike, dataset):
    def name(n):
        return '' if n in (2, 5) else f's{n}'

    with pytest.raises(UserError, match=r'for image .*s2.png, and .*s2.png is'):
        dataset(named_alike(mask=name))
    root = named_alike(mask=name, is_clean=lambda n: 'TRUE' if n == 2 else '')
    assert dataset(root).class_counts().tolist() == [2, 4]


@pytest.mark.parametrize('apart', [None, 'Image', 'Mask'])
def test_masks_of_images_that_are_left_out_are_nobodys_mistake(
    named_alike, dataset, write_table, apart
):
    root = named_alike()
    rows = [dict(image=f's{n}', patient_id=n) for n in (0, 1, 2, 5)]
    write_table(root / 'split_dataset.csv', rows)
    _move_into_a_folder(root, apart)
    assert dataset(root).class_counts().tolist() == [1, 3]


@pytest.mark.parametrize('apart', ['Image', 'Mask'])
def test_folders_may_differ(named_alike, dataset, apart):
    root = named_alike(mask=lambda n: '' if n in (2, 5) else f's{n}')
    _move_into_a_folder(root, apart)
    with pytest.raises(UserError, match=r's2.png, and .*s2.png is there'):
        dataset(root)


def test_slices_are_numbered_anew_in_each_folder(
    named_alike, dataset, write_table, save
):
    import numpy as np

    root = named_alike()
    for name in ('Image', 'Mask'):
        _move_into_a_folder(root, name)
        pixels = np.full((8, 8), 65535, np.uint16)
        save(root / name / 'other' / 's5.png', pixels)  # not in the table
    rows = [dict(image=f'some/s{n}', patient_id=n, mask='') for n in range(6)]
    for row in rows[:5]:
        row['mask'] = row['image']
    write_table(root / 'split_dataset.csv', rows)
    assert dataset(root).class_counts().tolist() == [1, 5]


def _move_into_a_folder(root, name):
    if name:
        (root / name / 'some').mkdir()
        for path in (root / name).glob('*.png'):
            shutil.move(path, root / name / 'some' / path.name)
