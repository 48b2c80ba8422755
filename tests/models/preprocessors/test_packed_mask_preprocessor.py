# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Masks stay on top of what they mark; windows; purity of views."""

from types import SimpleNamespace

import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.models.preprocessors.packed_mask_preprocessor import (
    PackedMaskPreprocessor,
)
from hkd_mm.models.teacher_cache import TeacherCache
from hkd_mm.models.teacher_cache.opening import _view_of
from hkd_mm.registry import MODELS

SIDE = 96
MOVES = dict(
    flip=[dict(type='hkd_mm.HorizontalFlip')],
    flop=[dict(type='hkd_mm.VerticalFlip')],
    quarter=[dict(type='hkd_mm.Rotate90')],
    turn=[dict(type='hkd_mm.Rotate', degrees=40, fill=0)],
    mirror=[dict(type='hkd_mm.Rotate', degrees=40, padding='reflection')],
    border=[dict(type='hkd_mm.Rotate', degrees=40, padding='border')],
    scale=[dict(type='hkd_mm.RandomScale', low=0.6, high=1.6, fill=0)],
    crop=[dict(type='hkd_mm.RandomResizedCrop', scale=(0.5, 1))],
)
TONES = [
    dict(type='hkd_mm.ColorJitter', brightness=0.4, contrast=0.4),
    dict(type='hkd_mm.RandomErasing', prob=0.5),
]
EVERYTHING = [
    *MOVES['flip'],
    *TONES,
    *MOVES['quarter'],
    *MOVES['scale'],
    *MOVES['turn'],
    *MOVES['crop'],
]
MOVES['everything'] = [o for o in EVERYTHING if o not in TONES]


def build(**kwargs):
    return MODELS.build(dict(type='hkd_mm.PackedMaskPreprocessor', **kwargs))


def blobs(count=24, side=SIDE):
    """Two discs of different sizes, off the centre, (B, side, side) 0/1."""
    y, x = torch.meshgrid(*[torch.arange(side)] * 2, indexing='ij')
    number = torch.arange(count)[:, None, None]
    big = (y - 30 - number % 9) ** 2 + (x - 36) ** 2 < 18**2
    small = (y - 62) ** 2 + (x - 56 + number % 11) ** 2 < 11**2
    return (big | small).to(torch.uint8)


def batch(masks, dtype=torch.uint16, channels=1):
    largest = 65535 if dtype is torch.uint16 else 255
    painted = (masks.int() * largest)[..., None].expand(-1, -1, -1, channels)
    return dict(
        inputs=painted.to(dtype),
        masks=masks,
        labels=torch.ones(len(masks), dtype=torch.int64),
        index=torch.arange(len(masks)) * 7 + 3,
    )


def part(data, rows):
    return {key: value[rows] for key, value in data.items()}


def overlap(one, two):
    both = (one & two).flatten(1).sum(1)
    return both / (one | two).flatten(1).sum(1)


def painted_masks(found):
    """Where the normalised image is bright, and the masks that came out."""
    return found['inputs'][:, 0] > 0, found['data_samples'].gt_masks == 1


@pytest.mark.parametrize('size', [None, 144])
@pytest.mark.parametrize('name', MOVES)
def test_a_painted_mask_stays_on_its_image(name, size):
    masks = blobs()
    if size:  # nearest pixels twice: half a pixel must be little
        masks = masks.repeat_interleave(2, 1).repeat_interleave(2, 2)
    network = build(augment=MOVES[name], input_size=size)
    found = network(batch(masks), training=True)
    bright, marked = painted_masks(found)
    assert marked.shape[1:] == (size or SIDE, size or SIDE)
    assert overlap(bright, marked).min() > 0.95
    if size is None:  # and something has moved
        assert (overlap(marked, masks == 1) < 0.9).any()


def test_colours_leave_the_mask_alone():
    masks = blobs()
    found = build(augment=TONES)(batch(masks), training=True)
    assert torch.equal(found['data_samples'].gt_masks, masks)
    assert not torch.equal(
        found['inputs'], build()(batch(masks), training=True)['inputs']
    )


def test_tones_of_grey_are_those_of_three_equal_channels():
    masks = torch.zeros(12, 30, 30, dtype=torch.uint8)
    grey = torch.randint(0, 256, (12, 30, 30, 1), dtype=torch.uint8)
    tones = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    augment = [dict(type='hkd_mm.ColorJitter', **tones)]
    one, three = (
        build(mean=[0.0] * n, std=[1.0] * n, augment=augment)(
            dict(batch(masks), inputs=grey.expand(-1, -1, -1, n)),
            training=True,
        )['inputs']
        for n in (1, 3)
    )
    assert (one - grey.permute(0, 3, 1, 2)).abs().amax((1, 2, 3)).min() > 1
    torch.testing.assert_close(
        one.expand_as(three), three, rtol=0, atol=0.3
    )  # torchvision's luma weights do not quite sum to one


def test_classes_are_moved_as_they_are_and_nothing_comes_between():
    masks = blobs() * 5
    masks[:, 40:50] = 255
    found = build(augment=EVERYTHING)(batch(masks), training=True)
    assert set(found['data_samples'].gt_masks.unique().tolist()) == {
        0,
        5,
        255,
    }


def test_what_a_turn_brings_in_is_background():
    masks = torch.ones(4, 20, 20, dtype=torch.uint8)
    network = build(augment=[dict(type='hkd_mm.RandomScale', low=0.5, high=0.5)])
    found = network(batch(masks), training=True)['data_samples'].gt_masks
    want = torch.zeros(20, 20, dtype=torch.uint8)
    want[5:15, 5:15] = 1
    assert all(torch.equal(mask, want) for mask in found)


@pytest.mark.parametrize('channels', [1, 3])
def test_a_view_is_the_same_in_any_batch_order_and_again(channels):
    statistics = dict(mean=[100.0] * channels, std=[50.0] * channels)
    network = build(augment=EVERYTHING, num_views=2, **statistics)
    data = batch(blobs(9), torch.uint8, channels)

    def views(rows):
        found = network(part(data, rows), training=True)
        return found['inputs'], found['data_samples'].gt_masks

    rows = torch.arange(9)
    images, masks = views(rows)
    order = torch.tensor([4, 8, 0, 2, 7, 1, 5, 3, 6])
    mixed = views(order)
    assert torch.equal(mixed[0], images[order])
    assert torch.equal(mixed[1], masks[order])
    alone = views(rows[5:6])
    assert torch.equal(alone[0], images[5:6])
    assert torch.equal(alone[1], masks[5:6])
    network.set_epoch(1)
    assert not torch.equal(views(rows)[1], masks)
    network.set_epoch(2)  # two views: the first again
    again = views(rows)
    assert torch.equal(again[0], images) and torch.equal(again[1], masks)


def test_evaluation_windows_and_normalises_only():
    values = torch.tensor([0, 24, 124, 224, 324, 65535], dtype=torch.int32)
    data = dict(
        inputs=values.to(torch.uint16).view(1, 2, 3, 1),
        masks=torch.tensor([[[0, 1, 0], [1, 0, 255]]], dtype=torch.uint8),
        index=torch.tensor([11]),
    )
    network = build(window=(174, 300), mean=[51.0], std=[25.5], augment=EVERYTHING)
    found = network(data)
    # lowest 24, highest 324: 24 -> 0, 124 -> 85, 224 -> 170, 324 -> 255
    want = torch.tensor([0.0, 0.0, 85.0, 170.0, 255.0, 255.0])
    want = ((want - 51) / 25.5).view(1, 1, 2, 3)
    torch.testing.assert_close(found['inputs'], want, rtol=1e-6, atol=1e-6)
    samples = found['data_samples']
    assert torch.equal(samples.gt_masks, data['masks'])
    assert samples.view == -1 and samples.index.tolist() == [11]


def test_without_a_window_the_whole_range_is_taken():
    data = batch(blobs(2))
    data['inputs'] = data['inputs'].int().div(4).int().to(torch.uint16)
    found = build(mean=[0.0], std=[1.0])(data)['inputs']
    assert found.max().item() == pytest.approx(16383 / 257)
    small = batch(blobs(2), torch.uint8)
    assert build(mean=[0.0], std=[1.0])(small)['inputs'].max() == 255


def test_16_bits_are_not_rounded_to_8():
    data = batch(torch.zeros(1, 1, 100, dtype=torch.uint8))
    data['inputs'] = torch.arange(100).view(1, 1, 100, 1).to(torch.uint16)
    found = build(window=(50, 100), mean=[0.0], std=[1.0])(data)['inputs']
    assert len(found.unique()) == 100
    wide = build(mean=[0.0], std=[1.0])(data)['inputs']
    assert len(wide.unique()) == 100


def test_the_packed_batch_is_not_changed():
    for dtype in (torch.uint8, torch.uint16):
        data = batch(blobs(3), dtype)
        kept = {key: value.clone() for key, value in data.items()}
        build(augment=EVERYTHING)(data, training=True)
        for key, value in kept.items():
            assert torch.equal(data[key].long(), value.long()), key


def test_evaluation_in_another_size():
    data = batch(blobs(4))
    found = build(input_size=48)(data)
    bright, marked = painted_masks(found)
    assert marked.shape == (4, 48, 48)
    assert overlap(bright, marked).min() > 0.9


def test_the_teacher_cache_sees_what_training_sees():
    """``_view_of`` of the cache against a training batch."""
    data = batch(blobs(6))
    network = build(augment=EVERYTHING, window=(20000, 50000), num_views=3)
    dataset = SimpleNamespace(__getitems__=lambda rows: part(data, rows))
    model = torch.nn.Linear(1, 1)
    model.data_preprocessor, model.teacher_cache = network, TeacherCache()
    rows = torch.tensor([5, 1])
    for view in range(3):
        network.set_epoch(view)
        want = network(data, training=True)['inputs'][rows]
        assert torch.equal(_view_of(model, dataset, rows, view), want)
    assert not network.batch_dependent


def test_the_fingerprint_knows_the_window():
    prints = {
        build(**kwargs).fingerprint()
        for kwargs in (
            dict(),
            dict(window=(100, 200)),
            dict(window=(100, 201)),
            dict(augment=MOVES['scale']),
            dict(seed=1),
        )
    }
    assert len(prints) == 5
    same = [build(window=w).fingerprint() for w in ((1, 2), [1.0, 2.0])]
    assert same[0] == same[1]


@pytest.mark.parametrize('name', ['Mixup', 'CutMix', 'RandAugment'])
def test_what_masks_cannot_follow_is_refused(name):
    with pytest.raises(UserError, match=f'{name} has no form for masks'):
        build(augment=[dict(type=f'hkd_mm.{name}')])


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(window=(1, 0)), 'width above 0'),
        (dict(window=(1, 2, 3)), 'width above 0'),
        (dict(window=600), 'width above 0'),
        (dict(window=['a', 'b']), 'width above 0'),
        (dict(std=[0.0]), 'std.0: Input should be greater than 0'),
        (dict(mean=[1.0, 2.0]), 'one number a channel'),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(UserError, match=message):
        PackedMaskPreprocessor(**kwargs)


def test_other_batches_are_refused():
    network = build()
    data = batch(blobs(2), torch.uint8, 3)
    with pytest.raises(UserError, match='3 channels and .* has 1 numbers'):
        network(data)
    del data['masks']
    with pytest.raises(UserError, match='hkd_mm.PackedMasks'):
        network(data)
