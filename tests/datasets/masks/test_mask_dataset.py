# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tables and folders of images with masks, and how they are split."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hkd_mm.errors import UserError

REAL = Path(__file__).parents[4] / 'shared/data/lidc_mini'
PARTS = ('train', 'val', 'test')


def _patients(data):
    return {data.get_data_info(i)['patient_id'] for i in range(len(data))}


def test_a_table_is_read_by_the_names_of_its_columns(ct_root, dataset):
    data = dataset(ct_root)
    assert len(data) == 30 and data.class_counts().tolist() == [5, 25]
    first = data.get_data_info(0)
    assert first['img_path'].endswith('Image/P0/0_NI_0.png')
    assert first['mask_path'].endswith('Mask/P0/0_MA_0.png')
    assert first['sample_id'] == 'P0/0_NI_0'
    assert (first['patient_id'], first['gt_label']) == ('0', 1)
    assert first['metadata'] == dict(malignancy='3')
    clean = data.get_data_info(5)
    assert clean['mask_path'] is None and clean['gt_label'] == 0


def test_other_names_and_another_order_are_the_same(ct_root, dataset, rewrite):
    before = dataset(ct_root)
    rewrite(
        ct_root,
        lambda row: dict(
            mask=row['mask_image'],
            image='Image/P{}/{}.png'.format(row['patient_id'], row['original_image']),
            patient=row['patient_id'],
            malignancy=row['malignancy'],
        ),
    )
    after = dataset(ct_root)
    rows = [[d.get_data_info(i) for i in range(30)] for d in (before, after)]
    assert rows[0] == rows[1]


def test_five_patients_are_split_once_and_never_divided(ct_root, dataset):
    parts = [dataset(ct_root, split=name) for name in PARTS]
    groups = [_patients(part) for part in parts]
    assert all(groups) and sum(map(len, groups)) == 5
    assert len(set.union(*groups)) == 5
    assert all(part.class_counts()[1] for part in parts)
    (path,) = Path('work_dirs/splits').glob('ct-*.json')
    document = json.loads(path.read_text())
    assert document['grouped_by'] == 'patient_id'
    assert document['counts']['val'].keys() == {'empty', 'foreground'}
    assert {part.split_hash for part in parts} == {document['hash']}
    written = path.stat().st_mtime_ns
    again = dataset(ct_root, split='val')
    assert _patients(again) == groups[1]
    assert path.stat().st_mtime_ns == written


def test_a_split_file_for_other_masks_is_refused(ct_root, dataset, save, rewrite):
    rewrite(ct_root, lambda row: dict(row, is_clean=''))
    dataset(ct_root, split_file='split.json')
    mask = np.zeros((40, 40), np.uint16)
    save(ct_root / 'Mask/P0/0_MA_0.png', mask)
    with pytest.raises(UserError, match='drawn for other data'):
        dataset(ct_root, split_file='split.json')


def test_masks_are_opened_only_where_the_table_leaves_it_open(
    ct_root, dataset, rewrite, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        'hkd_mm.datasets.masks.mask_dataset.marks_anything',
        lambda path, classes: seen.append(Path(path).stem) or False,
    )
    assert dataset(ct_root).class_counts().tolist() == [5, 25]
    assert not seen

    def doubtful(row):
        words = {'1_MA_1': '', '1_MA_2': 'TRUE'}
        return dict(row, is_clean=words.get(row['mask_image'], row['is_clean']))

    rewrite(ct_root, doubtful)
    assert dataset(ct_root).class_counts().tolist() == [7, 23]
    assert seen == ['1_MA_1', '1_MA_2']


def test_the_split_of_the_table_is_taken(ct_root, dataset, rewrite):
    def mode(row):
        names = dict(zip('01234', ('train', 'train', 'Validation', 'test')))
        return dict(row, mode=names.get(row['patient_id'], 'train'))

    rewrite(ct_root, mode)
    assert _patients(dataset(ct_root, split='train')) == {'0', '1', '4'}
    assert _patients(dataset(ct_root, split='val')) == {'2'}
    assert _patients(dataset(ct_root, split='test')) == {'3'}
    assert not Path('work_dirs').exists()


def test_a_patient_on_two_sides_is_refused(ct_root, dataset, rewrite):
    def mode(row):
        last = row['original_image'] == '3_NI_4'
        return dict(row, mode='test' if last else 'train')

    rewrite(ct_root, mode)
    with pytest.raises(UserError, match='patient 3 is in train') as found:
        dataset(ct_root, split='train')
    assert '\n' not in str(found.value)


def test_a_missing_mask_is_refused(ct_root, dataset):
    (ct_root / 'Mask/P2/2_MA_1.png').unlink()
    with pytest.raises(UserError, match='mask 2_MA_1 of image 2_NI_1'):
        dataset(ct_root)


def test_no_mask_is_named_though_the_slice_is_not_clean(ct_root, dataset, rewrite):
    rewrite(ct_root, lambda row: dict(row, is_clean='FALSE'))
    with pytest.raises(UserError, match='none named.* of image 0_NI_5'):
        dataset(ct_root)


def test_a_missing_image_is_refused(ct_root, dataset):
    (ct_root / 'Image/P2/2_NI_1.png').unlink()
    with pytest.raises(UserError, match='lists image 2_NI_1, which is not'):
        dataset(ct_root)


def test_an_image_listed_twice_is_refused(ct_root, dataset, rewrite):
    def same(row):
        if row['original_image'] == '0_NI_1':
            row['original_image'] = '0_NI_0'
        return row

    rewrite(ct_root, same)
    with pytest.raises(UserError, match='P0/0_NI_0 is listed twice'):
        dataset(ct_root)


def test_files_of_one_name_are_told_apart_by_the_patient(ct_root, dataset, rewrite):
    for folder in ('Image', 'Mask'):
        for path in (ct_root / folder).rglob('*.png'):
            path.rename(path.with_name(path.stem[-1] + '.png'))

    def named(row, prefix):
        name = row['original_image'][-1]
        return dict(
            row,
            patient_id=prefix + row['patient_id'],
            original_image=name,
            mask_image=row['mask_image'] and name,
        )

    table = (ct_root / 'split_dataset.csv').read_text()
    rewrite(ct_root, lambda row: named(row, 'P'))
    info = dataset(ct_root).get_data_info(13)
    assert info['img_path'].endswith('Image/P2/1.png')
    assert info['mask_path'].endswith('Mask/P2/1.png')
    (ct_root / 'split_dataset.csv').write_text(table)
    rewrite(ct_root, lambda row: named(row, ''))
    with pytest.raises(UserError, match='write its path'):
        dataset(ct_root)


def test_a_slice_never_gets_the_mask_of_another_patient(ct_root, dataset, rewrite):
    """Every slice is called as those of the others; one patient has masks."""
    for folder in ('Image', 'Mask'):
        for path in (ct_root / folder).rglob('*.png'):
            path.rename(path.with_name(path.stem[-1] + '.png'))
    for patient in range(1, 5):
        shutil.rmtree(ct_root / f'Mask/P{patient}')
    table = (ct_root / 'split_dataset.csv').read_text()

    def named(row, mask, prefix='P'):
        row = dict(row, patient_id=prefix + row['patient_id'])
        row['original_image'] = row['original_image'][-1]
        if prefix == '':  # else several slices could be meant
            row['original_image'] = f'P{row["patient_id"]}/{row["original_image"]}'
        number = row['original_image'][-1]
        row.update(mask_image=number if mask and number != '5' else '')
        del row['is_clean']
        if not mask:
            del row['mask_image']
        return row

    rewrite(ct_root, lambda row: named(row, False))
    assert dataset(ct_root).class_counts().tolist() == [25, 5]
    (ct_root / 'split_dataset.csv').write_text(table)
    rewrite(ct_root, lambda row: named(row, True))
    with pytest.raises(UserError, match='mask . of image . is not under'):
        dataset(ct_root)
    (ct_root / 'split_dataset.csv').write_text(table)
    rewrite(ct_root, lambda row: named(row, True, ''))
    with pytest.raises(UserError, match='is the mask of P0/0 and of P1/0'):
        dataset(ct_root)


def test_masks_are_read_once_for_all_parts(ct_root, dataset, monkeypatch):
    from hkd_mm.datasets.masks import mask_dataset

    asked = []

    def counted(path, classes):
        asked.append(path)
        return True

    monkeypatch.setattr(mask_dataset, 'marks_anything', counted)
    monkeypatch.setattr(mask_dataset, '_known', {})
    _as_folders(ct_root)
    for part in ('train', 'val', 'test'):
        dataset(ct_root, split=part)
    assert len(asked) == len(set(asked)) == 25
    path = ct_root / 'Mask/P0/s0.png'
    path.write_bytes(path.read_bytes() + b' ')
    dataset(ct_root)
    assert len(asked) == 26


def _as_folders(root, parts=None):
    """Equal stems, no table; patients in folders of parts if given."""
    (root / 'split_dataset.csv').unlink()
    for folder in ('Image', 'Mask'):
        for path in sorted((root / folder).rglob('*.png')):
            patient = path.parent.name
            base = root / parts[patient] if parts else root
            new = base / folder / patient / f's{path.stem[-1]}.png'
            new.parent.mkdir(parents=True, exist_ok=True)
            path.rename(new)
        if parts:
            shutil.rmtree(root / folder)


def test_folders_side_by_side(ct_root, dataset):
    _as_folders(ct_root)
    data = dataset(ct_root)
    assert len(data) == 30 and data.class_counts().tolist() == [5, 25]
    assert _patients(data) == {f'P{i}' for i in range(5)}
    info = data.get_data_info(7)
    assert info['sample_id'] == 'P1/s1'
    assert info['mask_path'].endswith('Mask/P1/s1.png')


def test_folders_of_parts(ct_root, dataset):
    names = ('train', 'train', 'train', 'val', 'test')
    _as_folders(ct_root, {f'P{i}': name for i, name in enumerate(names)})
    assert len(dataset(ct_root, split='train')) == 18
    assert _patients(dataset(ct_root, split='val')) == {'P3'}
    moved = ct_root / 'train/Image/P0'
    moved.rename(ct_root / 'test/Image/P0')
    (ct_root / 'train/Mask/P0').rename(ct_root / 'test/Mask/P0')
    shutil.copytree(ct_root / 'test/Image/P0', moved)
    with pytest.raises(UserError, match='patient P0 is in'):
        dataset(ct_root)


def test_a_mask_without_an_image_is_refused(ct_root, dataset, save):
    _as_folders(ct_root)
    save(ct_root / 'Mask/P1/typo.png', np.ones((40, 40), np.uint8))
    with pytest.raises(UserError, match='typo.png has no image'):
        dataset(ct_root)


def test_slices_of_unknown_patients_are_refused(ct_root, dataset, rewrite):
    def nameless(row):
        del row['patient_id']
        return row

    rewrite(ct_root, lambda row: dict(row, mode='train'))
    table = (ct_root / 'split_dataset.csv').read_text()
    rewrite(ct_root, nameless)
    with pytest.raises(UserError, match='add a column patient_id'):
        dataset(ct_root)  # also of data that comes split
    (ct_root / 'split_dataset.csv').write_text(table.replace('\n0,', '\n,'))
    with pytest.raises(UserError, match='add a column patient_id'):
        dataset(ct_root)


def test_photographs_need_their_masks(tmp_path, dataset, save, write_image):
    for i in range(12):
        write_image(tmp_path / f'data/images/ISIC_{i:02}.png', seed=i)
        mask = np.zeros((12, 12), np.uint8)
        mask[3:6, 4:9] = 255
        save(tmp_path / f'data/masks/ISIC_{i:02}_segmentation.png', mask)
    kwargs = dict(kind='SkinLesionMasks', split_file=str(tmp_path / 's.json'))
    data = dataset(tmp_path / 'data', **kwargs)
    assert len(data) == 12 and data.classes == ('background', 'lesion')
    assert data.class_counts().tolist() == [0, 12]
    (tmp_path / 'data/masks/ISIC_03_segmentation.png').unlink()
    with pytest.raises(UserError, match='ISIC_03.png has no mask'):
        dataset(tmp_path / 'data', **kwargs)


def test_nothing_marked_in_training_is_refused(ct_root, dataset, rewrite):
    def mode(row):
        clean = row['patient_id'] == '0'
        return dict(
            row,
            mask_image='' if clean else row['mask_image'],
            is_clean='TRUE' if clean else row['is_clean'],
            mode='train' if clean else 'val',
        )

    rewrite(ct_root, mode)
    with pytest.raises(UserError, match='something marked'):
        dataset(ct_root, split='train')


@pytest.mark.parametrize('kwargs', [dict(bits=12), dict(channels=3)])
def test_other_depths_are_refused(ct_root, dataset, kwargs):
    with pytest.raises(UserError, match='must be 1 or 3 channels'):
        dataset(ct_root, **kwargs)


@pytest.mark.skipif(not REAL.is_dir(), reason='no LIDC slices here')
def test_real_slices(in_tmp, dataset):
    sizes = [len(dataset(REAL, split=name)) for name in PARTS]
    assert sizes == [44, 24, 12]
