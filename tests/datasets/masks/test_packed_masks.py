# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Batches hold the files' values, resized; stores are built as others."""

import hashlib
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY_CLASSES
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from hkd_mm.datasets.masks.packed_masks import resize_mask
from hkd_mm.datasets.packed.packed_dataset import packed_collate
from hkd_mm.datasets.packed.plan import make_plan
from hkd_mm.datasets.records import Record
from hkd_mm.errors import UserError

REAL = Path(__file__).parents[4] / 'shared/data/lidc_mini'


def test_values_are_those_of_the_files(ct_root, dataset, packed_masks):
    data = packed_masks(dataset(ct_root))
    batch = data.__getitems__([7, 5])
    assert batch['inputs'].dtype == torch.uint16
    assert batch['inputs'].shape == (2, 40, 40, 1)
    assert batch['masks'].dtype == torch.uint8
    for image, mask, at in zip(batch['inputs'], batch['masks'], (7, 5)):
        info = data.get_data_info(at)
        stored = cv2.imread(info['img_path'], cv2.IMREAD_UNCHANGED)
        assert stored.dtype == np.uint16 and stored.max() > 60000
        assert np.array_equal(image[..., 0].numpy(), stored)
        if info['mask_path'] is None:
            assert not mask.any()
        else:
            truth = cv2.imread(info['mask_path'], cv2.IMREAD_UNCHANGED)
            assert np.array_equal(mask.numpy(), truth > 0)
    assert batch['labels'].tolist() == [1, 0]
    assert batch['index'].tolist() == [7, 5]


def test_the_facts_of_the_inner_data_set(ct_root, dataset, packed_masks):
    inner = dataset(ct_root, split='train')
    data = packed_masks(inner)
    assert data.classes == ('background', 'nodule')
    assert (data.split, data.split_hash) == ('train', inner.split_hash)
    assert data.data_root == str(ct_root) and len(data) == len(inner)
    assert data.class_counts().tolist() == inner.class_counts().tolist()
    assert data.get_gt_labels().tolist() == inner.get_gt_labels().tolist()
    assert data.metainfo['classes'] == data.classes
    assert Path(data.metainfo['packed_store']).is_dir()
    info = data.get_data_info(0)
    row = data.store.ids.index(info['sample_id'])
    assert data.rows[0] == data.index[0] == row


def test_patients_for_the_metric_but_not_for_checkpoints(
    ct_root, dataset, packed_masks
):
    data = packed_masks(dataset(ct_root, split='val'))
    infos = [data.get_data_info(i) for i in range(len(data))]
    groups = {info['sample_id']: info['patient_id'] for info in infos}
    assert data.metainfo['groups'] == groups and len(groups) == len(data)
    train = packed_masks(dataset(ct_root, split='train'))
    assert 'groups' not in train.metainfo


def test_a_loader_takes_it(ct_root, dataset, packed_masks):
    data = packed_masks(dataset(ct_root), size=16)
    sampler = BatchSampler(SequentialSampler(data), 8, False)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=packed_collate)
    batches = list(loader)
    assert [len(batch['masks']) for batch in batches] == [8, 8, 8, 6]
    one = packed_collate([data[3], data[4]])
    assert torch.equal(one['inputs'], data.__getitems__([3, 4])['inputs'])


def test_images_by_area_and_masks_by_the_larger_share():
    mask = np.zeros((4, 4), np.uint8)
    mask[:2, :2] = [[1, 1], [0, 0]]  # a half
    mask[2, 2] = 1  # a quarter
    assert resize_mask(mask, 2, 2).tolist() == [[1, 0], [0, 0]]
    mask[:2, :2] = [[1, 2], [2, 0]]
    mask[2:, 2:] = [[255, 255], [255, 2]]
    mask[:2, 2:] = [[1, 2], [2, 1]]  # a draw: the smaller id
    assert resize_mask(mask, 2, 3).tolist() == [[2, 1], [0, 255]]


@pytest.mark.parametrize('classes', [2, 4])
@pytest.mark.parametrize('side', [5, 13, 64])
def test_shares_against_plain_loops(classes, side):
    """Each pixel of the source cut into side x side parts, and counted."""
    rng = np.random.default_rng(side)
    small = rng.integers(0, classes, (8, 6), dtype=np.uint8)
    mask = small.repeat(5, 0).repeat(7, 1)
    found = resize_mask(mask, side, classes)
    if side > min(mask.shape):
        assert set(np.unique(found)) <= set(range(classes))
        return
    fine = mask.repeat(side, 0).repeat(side, 1)
    for y in range(side):
        for x in range(side):
            part = fine[y * 40 : (y + 1) * 40, x * 42 : (x + 1) * 42]
            count = np.bincount(part.ravel(), minlength=classes)
            share = count[found[y, x]] / part.size
            # float32 may take either of two equal shares
            best = 0.5 if classes == 2 else count.max() / part.size
            assert share >= best - 1e-5


def test_resized_images_stay_16_bits(ct_root, dataset, packed_masks):
    data = packed_masks(dataset(ct_root), size=20)
    path = data.get_data_info(3)['img_path']
    stored = cv2.imread(path, cv2.IMREAD_UNCHANGED).astype(np.float64)
    mean = stored.reshape(20, 2, 20, 2).mean((1, 3))
    found = data.__getitems__([3])['inputs'][0, ..., 0].numpy()
    assert np.abs(found.astype(np.float64) - mean).max() <= 0.5


def test_what_vanishes_is_not_counted(ct_root, dataset, packed_masks, save):
    mask = np.zeros((40, 40), np.uint16)
    mask[3, 3] = 1
    save(ct_root / 'Mask/P0/0_MA_0.png', mask)
    inner = dataset(ct_root)
    assert inner.get_gt_labels()[0] == 1
    assert packed_masks(inner).labels[0] == 1
    assert packed_masks(inner, size=10).labels[0] == 0


def test_a_changed_mask_makes_a_new_store(ct_root, dataset, packed_masks, save):
    first = packed_masks(dataset(ct_root))
    assert packed_masks(dataset(ct_root)).store.folder == first.store.folder
    mask = np.zeros((40, 40), np.uint16)
    mask[:9] = 7
    save(ct_root / 'Mask/P1/1_MA_2.png', mask)
    second = packed_masks(dataset(ct_root))
    assert second.store.hash != first.store.hash
    assert second.__getitems__([8])['masks'][0].sum() == 9 * 40


def test_kinds_of_masks_have_stores_of_their_own(ct_root, dataset, packed_masks, save):
    names = ['background', 'solid', 'other']
    for path in (ct_root / 'Mask').rglob('*.png'):
        save(path, (np.arange(1600).reshape(40, 40) % 3).astype(np.uint8))
    one = packed_masks(dataset(ct_root))
    more = packed_masks(dataset(ct_root, classes=names))
    assert more.store.folder != one.store.folder
    assert more.__getitems__([0])['masks'].unique().tolist() == [0, 1, 2]
    assert one.__getitems__([0])['masks'].unique().tolist() == [0, 1]
    header = json.loads((one.store.folder / 'header.json').read_text())
    assert header['masks'] == dict(version=2, channels=1, bits=16, classes=2)
    assert (one.store.folder / 'pixels.bin').stat().st_size == 30 * 1600 * 3


def test_keys_of_stores_without_masks_are_as_ever(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(b'12345')
    os.utime(path, ns=(10**18, 10**18))
    plan = make_plan(str(tmp_path), [Record('a', str(path), 'x')], 24)
    assert plan.rule == dict(version=1, side=24, interpolation='area')
    text = json.dumps([plan.rule, ['a', 'a.png', 5, 10**18]], sort_keys=True)
    assert plan.key == hashlib.sha256(text.encode()).hexdigest()
    assert list(plan.as_dict()) == [
        'rule',
        'root',
        'ids',
        'files',
        'sizes',
        'times',
    ]


def test_a_damaged_mask_is_noticed(ct_root, dataset, packed_masks):
    folder = packed_masks(dataset(ct_root)).store.folder
    with open(folder / 'pixels.bin', 'r+b') as file:
        file.seek(1600 * 3 - 1)  # the last pixel of the first mask
        file.write(b'\1')
    with pytest.raises(UserError, match='checksum of image P0/0_NI_0'):
        packed_masks(dataset(ct_root))


def test_another_size_of_the_mask_is_refused(ct_root, dataset, packed_masks, save):
    save(ct_root / 'Mask/P1/1_MA_2.png', np.ones((40, 39), np.uint8))
    with pytest.raises(UserError, match='40 x 40 pixels and its mask .*39 x'):
        packed_masks(dataset(ct_root))


def test_a_cast_image_is_refused(ct_root, dataset, packed_masks, save):
    save(ct_root / 'Image/P1/1_NI_2.png', np.zeros((40, 40), np.uint8))
    with pytest.raises(UserError, match='1_NI_2.png has 8 bits'):
        packed_masks(dataset(ct_root))


def test_other_data_sets_are_refused(tiny_data, packed_masks, in_tmp):
    inner = dict(type='hkd_mm.SkinDisease', data_root=str(tiny_data))
    inner['classes'] = list(TINY_CLASSES)
    with pytest.raises(UserError, match='not SkinDisease'):
        packed_masks(inner)


@pytest.mark.skipif(not REAL.is_dir(), reason='no LIDC slices here')
def test_real_slices(in_tmp, dataset, packed_masks):
    data = packed_masks(dataset(REAL, split='train'), size=460)
    info = data.get_data_info(4)
    stored = cv2.imread(info['img_path'], cv2.IMREAD_UNCHANGED)
    truth = cv2.imread(info['mask_path'], cv2.IMREAD_UNCHANGED) > 0
    batch = data.__getitems__([4])
    assert np.array_equal(batch['inputs'][0, ..., 0].numpy(), stored)
    assert np.array_equal(batch['masks'][0].numpy(), truth)


def test_millimetres_come_from_the_table(ct_root, dataset, packed_masks, rewrite):
    assert packed_masks(dataset(ct_root)).metainfo['extents'] == {}

    def told(row):
        return dict(row, pixel_spacing=f'0.{row["patient_id"]}5')

    rewrite(ct_root, told)
    found = packed_masks(dataset(ct_root), size=20).metainfo['extents']
    assert len(found) == 30
    for name, extent in found.items():  # of 40 pixels, whatever was packed
        patient = int(name.split('/')[0][1:])
        assert extent == pytest.approx((40 * (patient / 10 + 0.05),) * 2)
    for text in ('0.5 0.75', r'0.5\0.75'):  # as DICOM writes it, too
        rewrite(ct_root, lambda row, text=text: dict(row, pixel_spacing=text))
        found = packed_masks(dataset(ct_root)).metainfo['extents']
        assert set(found.values()) == {(40 * 0.5, 40 * 0.75)}
    for wrong in ('', 'nan', '-1', 'wide', '0.5 0', '1 1 1'):
        rewrite(
            ct_root,
            lambda row, wrong=wrong: dict(
                told(row),
                **(dict(pixel_spacing=wrong) if row['mask_image'] else {}),
            ),
        )
        with pytest.raises(UserError, match='must be millimetres above 0'):
            _ = packed_masks(dataset(ct_root)).metainfo


def test_the_training_part_tells_a_test_what_checkpoints_do_not_keep(
    ct_root, dataset, packed_masks, rewrite
):
    rewrite(ct_root, lambda row: dict(row, pixel_spacing='0.5'))
    train = packed_masks(dataset(ct_root, split='train'))
    assert not {'groups', 'extents'} & train.metainfo.keys()
    told = train.tested_metainfo
    assert len(told['groups']) == len(train) == len(told['extents'])
    assert set(told['extents'].values()) == {(20.0, 20.0)}
    assert told['classes'] == train.classes


def test_turned_photographs_are_measured_as_they_are_read(tmp_path):
    from hkd_mm.datasets.masks.reading import extents
    from hkd_mm.io.images import read_stored

    for orientation, sides in ((1, (6.0, 8.0)), (6, (8.0, 6.0))):
        path = str(tmp_path / f'{orientation}.jpg')
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new('RGB', (16, 12)).save(path, exif=exif)
        info = dict(sample_id='a', img_path=path, metadata=dict(pixel_spacing='0.5'))
        assert extents([info]) == dict(a=sides)
        assert read_stored(path, 3, 8).shape[:2] == tuple(2 * side for side in sides)


def test_an_unreadable_image_has_no_extent(tmp_path):
    from hkd_mm.datasets.masks.reading import extents

    path = tmp_path / 'a.png'
    path.write_bytes(b'no image')
    info = dict(sample_id='a', img_path=str(path), metadata=dict(pixel_spacing='0.5'))
    with pytest.raises(UserError, match='a.png cannot be read'):
        extents([info])
