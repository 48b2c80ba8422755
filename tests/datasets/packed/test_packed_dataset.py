# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Batches hold the stock pipeline's pixels and the inner data set's facts."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import DefaultScope
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader

from hkd_mm.datasets.packed.packed_dataset import packed_collate
from hkd_mm.datasets.packed.plan import pack_image
from hkd_mm.datasets.samplers import BalancedSampler
from hkd_mm.errors import UserError
from hkd_mm.registry import DATASETS

PARTS = ('train', 'val', 'test')


def stock_pixels(path, side, interpolation='area'):
    """(3, H, W) uint8 BGR, through the pipeline of the configs."""
    results = dict(img_path=str(path))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for step in (
            dict(type='hkd_mm.LoadSkinImage'),
            dict(
                type='Resize',
                scale=(side, side),
                interpolation=interpolation,
            ),
            dict(type='PackInputs'),
        ):
            results = TRANSFORMS.build(step)(results)
    return results['inputs']


@pytest.mark.parametrize('interpolation', ['area', 'bilinear'])
@pytest.mark.parametrize('side', [16, 24, 31])
def test_pixels_are_those_of_the_stock_pipeline(packed, side, interpolation):
    dataset = packed(size=side, interpolation=interpolation)
    batch = dataset.__getitems__(list(range(len(dataset))))
    assert batch['inputs'].dtype == torch.uint8
    assert batch['inputs'].shape == (36, side, side, 3)
    for i, image in enumerate(batch['inputs']):
        path = dataset.get_data_info(i)['img_path']
        stock = stock_pixels(path, side, interpolation)
        assert torch.equal(image.permute(2, 0, 1).flip(0), stock)


def _turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    pixels = np.random.default_rng(0).integers(0, 255, (20, 31, 3))
    Image.fromarray(pixels.astype('uint8')).save(path, exif=exif)


@pytest.mark.parametrize('kind', ['exif', 'grey', 'alpha', 'palette', '16'])
def test_odd_files_are_packed_as_the_stock_pipeline_reads_them(tmp_path, kind):
    path = tmp_path / ('a.jpg' if kind == 'exif' else 'a.png')
    rng = np.random.default_rng(1)
    if kind == 'exif':
        _turned(path)
    elif kind == '16':
        pixels = rng.integers(0, 65536, (31, 20)).astype(np.uint16)
        Image.fromarray(pixels).save(path)
    else:
        mode = dict(grey='L', alpha='RGBA', palette='P')[kind]
        shape = (31, 20, 4) if kind == 'alpha' else (31, 20)
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        image = Image.fromarray(pixels)
        image.convert(mode).save(path)
    found = torch.from_numpy(pack_image(str(path), 12, 'area'))
    assert torch.equal(found.permute(2, 0, 1).flip(0), stock_pixels(path, 12))


def test_facts_are_those_of_the_inner_data_set(packed):
    for split in PARTS:
        dataset = packed(split)
        inner = dataset.dataset
        assert len(dataset) == len(inner) and dataset.split == split
        assert dataset.classes == inner.classes
        assert dataset.metainfo['classes'] == inner.metainfo['classes']
        assert dataset.split_hash == inner.split_hash
        assert (dataset.class_counts() == inner.class_counts()).all()
        assert (dataset.get_gt_labels() == inner.get_gt_labels()).all()
        assert dataset.get_cat_ids(3) == [inner[3]['gt_label']]
        infos = [inner.get_data_info(i) for i in range(len(inner))]
        assert dataset.sample_ids == [info['sample_id'] for info in infos]


def test_all_splits_share_one_store_and_one_numbering(packed):
    whole, parts = packed('all'), [packed(split) for split in PARTS]
    assert all(part.store is whole.store for part in parts)
    rows = torch.cat([part.rows for part in parts])
    assert sorted(rows.tolist()) == list(range(36))
    for part in parts:
        names = [part.store.ids[row] for row in part.rows]
        assert names == part.sample_ids


def test_a_batch_is_gathered_by_position(packed):
    dataset = packed('train')
    chosen = [7, 0, 7, 3]
    batch = dataset.__getitems__(chosen)
    assert batch['labels'].tolist() == dataset.get_gt_labels()[chosen].tolist()
    assert torch.equal(batch['index'], dataset.rows[chosen])
    singles = [dataset[i] for i in chosen]
    stacked = packed_collate(singles)
    assert singles[0]['inputs'].shape == (16, 16, 3)
    assert all(torch.equal(batch[key], stacked[key]) for key in batch)
    batch['inputs'].zero_()  # memory of its own
    assert torch.equal(dataset[7]['inputs'], singles[0]['inputs'])
    assert packed_collate(batch) is batch


@pytest.mark.parametrize('kind', [DefaultSampler, BalancedSampler])
def test_workers_deliver_the_same_batches(packed, kind):
    dataset = packed('train')
    found = []
    for workers in (0, 2):
        sampler = BatchSampler(kind(dataset, seed=3), 5, False)
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=packed_collate,
        )
        found.append(list(loader))
    assert len(found[0]) == 4
    for one, two in zip(*found, strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_in_memory_and_pickled_data_sets_are_the_same(packed):
    mapped = packed('val').__getitems__([1, 2])
    for other in (
        packed('val', in_memory=True),
        pickle.loads(pickle.dumps(packed('val'))),
    ):
        batch = other.__getitems__([1, 2])
        assert all(torch.equal(batch[key], mapped[key]) for key in mapped)


def test_margin_stores_larger_images(packed):
    batch = packed('train', size=16, margin=1.15).__getitems__([0, 1])
    assert batch['inputs'].shape == (2, 18, 18, 3)


def test_wrapped_in_a_repetition(packed):
    dataset = packed('train')
    repeated = DATASETS.build(
        dict(
            type='mmengine.RepeatDataset',
            times=2,
            dataset=dict(type='hkd_mm.PackedDataset', dataset=dataset.dataset, size=16),
        )
    )
    loader = DataLoader(repeated, len(dataset), collate_fn=packed_collate)
    one, two = loader
    assert torch.equal(one['inputs'], two['inputs']) and len(one['index'])


@pytest.mark.parametrize(
    'wrong, word',
    [
        (dict(margin=0.9), 'margin'),
        (dict(interpolation='magic'), 'interpolation'),
        (dict(size=0), 'input_size'),
        (dict(verify='no'), 'verify'),
    ],
)
def test_bad_arguments_are_named(packed, wrong, word):
    with pytest.raises(UserError, match=word):
        packed(**wrong)


def test_other_data_sets_are_refused(tmp_path):
    with pytest.raises(UserError, match='packed=False'):
        DATASETS.build(
            dict(
                type='hkd_mm.PackedDataset',
                dataset=dict(
                    type='mmpretrain.CIFAR10',
                    data_root=str(tmp_path),
                    split='train',
                    lazy_init=True,
                ),
            )
        )
