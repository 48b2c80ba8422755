# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Paths that a table names, and folders as data sets ship them."""

import os

import numpy as np
import pytest

from hkd_mm.errors import UserError


def ids(data):
    return [data.get_data_info(i)['sample_id'] for i in range(len(data))]


def moved(ct_root, rewrite, place, patient='3'):
    """Files of a patient taken to another folder, named by their paths."""

    def change(row):
        if row['patient_id'] != patient:
            return row
        name = row['original_image']
        old = ct_root / f'Image/P{patient}/{name}.png'
        new = place / f'{name}.png'
        new.parent.mkdir(parents=True, exist_ok=True)
        old.rename(new)
        return dict(row, original_image=written(new))

    def written(path):
        return os.path.relpath(path, ct_root)

    rewrite(ct_root, change)


def test_a_path_below_the_root_alone_names_the_image(ct_root, dataset, rewrite):
    moved(ct_root, rewrite, ct_root / 'scans')
    found = ids(dataset(ct_root))
    assert found[17:19] == ['P2/2_NI_5', 'scans/3_NI_0']
    info = dataset(ct_root).get_data_info(18)
    assert info['mask_path'].endswith('Mask/P3/3_MA_0.png')


@pytest.mark.parametrize('form', ['{root}/Image/{name}', '../ct/Image/{name}'])
def test_detours_lead_to_the_same_ids(ct_root, dataset, rewrite, form):
    before = dataset(ct_root)

    def change(row):
        name = f'P{row["patient_id"]}/{row["original_image"]}.png'
        path = form.format(root=ct_root, name=name)
        mask = row['mask_image'] and path.replace('Image', 'Mask').replace(
            '_NI_', '_MA_'
        )
        return dict(row, original_image=path, mask_image=mask)

    rewrite(ct_root, change)
    after = dataset(ct_root)
    for place in range(30):
        assert before.get_data_info(place) == after.get_data_info(place)


def test_an_image_outside_of_the_root_is_refused(ct_root, dataset, rewrite, tmp_path):
    moved(ct_root, rewrite, tmp_path / 'elsewhere')
    with pytest.raises(UserError, match='3_NI_0.png lies outside of the data'):
        dataset(ct_root)


def official(root, save, write_image, write_table, masks, ending):
    """HAM10000 with the masks of its authors, as they are unpacked."""
    rows = []
    for i in range(12):
        name = f'ISIC_{i:07}'
        part = f'HAM10000_images_part_{1 + i % 2}'
        write_image(root / part / f'{name}.jpg', seed=i)
        mask = np.zeros((12, 12), np.uint8)
        mask[3:6, 4:9] = 255
        save(root / masks / f'{name}{ending}.png', mask)
        rows.append(dict(lesion_id=f'HAM_{i // 2}', image_id=name, dx='nv'))
    write_table(root / 'HAM10000_metadata.csv', rows)
    return root


@pytest.mark.parametrize(
    ('masks', 'ending'),
    [
        ('HAM10000_segmentations_lesion_tschandl', '_segmentation'),
        ('HAM10000_segmentations_lesion_tschandl', ''),
        ('', '_segmentation'),  # beside the photographs
    ],
)
def test_the_masks_of_ham10000_are_found(
    in_tmp, dataset, save, write_image, write_table, masks, ending
):
    root = in_tmp / 'ham'
    official(root, save, write_image, write_table, masks, ending)
    data = dataset(root, kind='SkinLesionMasks')
    assert len(data) == 12 and data.class_counts().tolist() == [0, 12]
    for place in range(12):
        info = data.get_data_info(place)
        assert info['img_path'].endswith(f'ISIC_{place:07}.jpg')
        assert info['mask_path'].endswith(f'ISIC_{place:07}{ending}.png')


def test_two_folders_of_masks_are_refused(
    in_tmp, dataset, save, write_image, write_table
):
    root, name = in_tmp / 'ham', 'HAM10000_segmentations_lesion_tschandl'
    official(root, save, write_image, write_table, name, '')
    (root / 'my_segmentations').mkdir()
    with pytest.raises(UserError, match='could lie in .*tschandl or in my_'):
        dataset(root, kind='SkinLesionMasks')


@pytest.mark.parametrize('place', ['/home/me/ct/{}.png', r'D:\ct\{}.png'])
def test_paths_of_another_machine_are_found_by_name(ct_root, dataset, rewrite, place):
    before = dataset(ct_root)

    def change(row):
        mask = row['mask_image'] and place.format(row['mask_image'])
        image = place.format(row['original_image'])
        return dict(row, original_image=image, mask_image=mask)

    rewrite(ct_root, change)
    after = dataset(ct_root)
    for number in range(30):
        assert before.get_data_info(number) == after.get_data_info(number)


def test_columns_of_other_names(ct_root, dataset, rewrite):
    before = ids(dataset(ct_root))

    def change(row):
        patient = row.pop('patient_id')
        row = dict(row, slice=row.pop('original_image'), case=patient)
        return dict(row, fold='Train' if patient < '3' else 'VALID')

    rewrite(ct_root, change)
    words = dict(image_col='slice', group_cols='case', split_col='fold')
    assert ids(dataset(ct_root, **words)) == before
    train = dataset(ct_root, split='train', **words)
    homes = {train.get_data_info(i)['patient_id'] for i in range(len(train))}
    assert homes and max(homes) < '3'
    with pytest.raises(UserError, match='add a column patient_id'):
        dataset(ct_root, image_col='slice')
    with pytest.raises(UserError, match='label_col=x is for classes'):
        dataset(ct_root, label_col='x')
    with pytest.raises(UserError, match='no column "who"; found: '):
        dataset(ct_root, image_col='slice', group_cols='who')
