# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The preprocessor: pixels, purity, cost."""

import warnings
from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from mmpretrain.models.utils.data_preprocessor import ClsDataPreprocessor
from torch.utils._python_dispatch import TorchDispatchMode

from hkd_mm.errors import UserError
from hkd_mm.models.algorithms.teacher_precision import InputConversion
from hkd_mm.models.preprocessors.packed_preprocessor import PackedPreprocessor
from hkd_mm.registry import MODELS

HKD = [
    dict(type='hkd_mm.HorizontalFlip', prob=0.5),
    dict(
        type='hkd_mm.ColorJitter',
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        hue=0.05,
    ),
    dict(type='hkd_mm.Rotate', degrees=10),
]
EVERYTHING = [
    dict(type='hkd_mm.VerticalFlip'),
    dict(type='hkd_mm.Rotate90'),
    dict(type='hkd_mm.RandomResizedCrop'),
    *HKD,
    dict(type='hkd_mm.RandAugment', classes=[0, 2]),
    dict(type='hkd_mm.RandomErasing', prob=0.5, fill=None),
]
MIXED = [*EVERYTHING, dict(type='hkd_mm.Mixup'), dict(type='hkd_mm.CutMix')]


class Operators(TorchDispatchMode):
    """Count the ATen operators that run."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def batch(size=32, side=33):
    generator = torch.Generator().manual_seed(size)
    return dict(
        inputs=torch.randint(0, 256, (size, side, side, 3), generator=generator).to(
            torch.uint8
        ),
        labels=torch.arange(size) % 4,
        index=torch.arange(size) * 13 + 5,
    )


def part(data, rows):
    return {key: value[rows] for key, value in data.items()}


@pytest.mark.parametrize('to_rgb', [True, False])
def test_evaluation_is_that_of_mmpretrain_bit_for_bit(to_rgb):
    data = batch()
    statistics = dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=to_rgb,
    )
    stock = ClsDataPreprocessor(**statistics)
    bgr = data['inputs'].flip(-1).permute(0, 3, 1, 2).contiguous()
    want = stock(dict(inputs=bgr))['inputs']
    found = PackedPreprocessor(**statistics, augment=HKD)(data)
    assert torch.equal(found['inputs'], want)
    assert found['inputs'].is_contiguous(memory_format=torch.channels_last)
    samples = found['data_samples']
    assert torch.equal(samples.gt_labels, data['labels'])
    assert torch.equal(samples.index, data['index']) and samples.view == -1


def test_without_augmentation_training_is_evaluation():
    data = batch()
    plain = PackedPreprocessor()
    found = plain(data, training=True)
    assert torch.equal(found['inputs'], plain(data)['inputs'])
    assert found['data_samples'].view == 0
    again = plain.augment(data['inputs'], data['index'], 0)
    assert torch.equal(found['inputs'], again)


@pytest.mark.parametrize('to_rgb', [True, False])
@pytest.mark.parametrize('training', [True, False])
def test_at_most_12_operators_for_a_batch_of_128(to_rgb, training):
    data, plain = batch(128, 116), PackedPreprocessor(to_rgb=to_rgb)
    with Operators() as seen:
        plain(data, training)
    assert sum(seen.counts.values()) <= 12, seen.counts


@pytest.mark.parametrize('augment', [(), HKD, EVERYTHING, MIXED])
def test_nothing_is_read_on_the_host(augment):
    data = batch()
    network = PackedPreprocessor(augment=augment, num_classes=4)
    with Operators() as seen:
        network(data, training=True)
    for name in (
        '_local_scalar_dense',
        'item',
        'nonzero',
        'is_nonzero',
        'equal',
        'unique',
    ):
        assert not any(name in found for found in seen.counts), seen.counts


@pytest.mark.parametrize('augment', [(), HKD, EVERYTHING, MIXED])
def test_on_a_device_nothing_waits_for_its_values(augment, monkeypatch):
    """Meta tensors have none: whoever asks for one fails."""
    monkeypatch.setattr(torch, 'autocast', lambda *_, **__: nullcontext())
    network = PackedPreprocessor(augment=augment, num_classes=4).to('meta')
    found = network(batch(), training=True)
    assert found['inputs'].device.type == 'meta'
    assert found['inputs'].shape == (32, 3, 33, 33)
    assert found['data_samples'].gt_labels.device.type == 'meta'


@pytest.mark.parametrize('augment', [HKD, EVERYTHING])
def test_a_view_does_not_depend_on_the_batch(augment):
    """Any batch size, order and neighbours; in any process, at any time."""
    data = batch(37)
    network = PackedPreprocessor(augment=augment)
    network.set_epoch(3)
    whole = network(data, training=True)['inputs']
    for size in (1, 2, 5, 16):
        for start in range(0, 36, 7):
            rows = torch.arange(start, min(start + size, 37))
            assert torch.equal(
                network(part(data, rows), training=True)['inputs'], whole[rows]
            )
    order = torch.randperm(37, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        network(part(data, order), training=True)['inputs'], whole[order]
    )
    network.set_epoch(4)
    assert not torch.equal(network(data, training=True)['inputs'], whole)
    later = PackedPreprocessor(augment=augment)
    torch.manual_seed(99)
    assert torch.equal(
        later.augment(data['inputs'], data['index'], 3, data['labels']), whole
    )


def test_a_cpu_works_on_a_few_images_at_a_time(monkeypatch):
    """How many does not show."""
    from hkd_mm.models.preprocessors import pipeline

    data, network = batch(20), PackedPreprocessor(augment=EVERYTHING)
    found = []
    for pixels in (1, 5000, 10**9):
        monkeypatch.setattr(pipeline, '_PIXELS_AT_ONCE', pixels)
        found.append(network(data, training=True)['inputs'])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_views_repeat_after_num_views_and_never_without():
    data = batch(8)
    network, endless = (
        PackedPreprocessor(augment=HKD, num_views=views) for views in (3, None)
    )
    seen, unseen = [], []
    for epoch in range(6):
        for one, images in ((network, seen), (endless, unseen)):
            one.set_epoch(epoch)
            found = one(data, training=True)
            assert found['data_samples'].view == one.view
            images.append(found['inputs'])
    for i in range(3):
        assert torch.equal(seen[i], seen[i + 3])
        assert torch.equal(seen[i], unseen[i])
    assert len({float(images.sum()) for images in unseen}) == 6


def test_parameters_of_a_view_are_listed_by_operation():
    network = PackedPreprocessor(augment=[*HKD, HKD[2]])
    listed = network.view_parameters(torch.tensor([4, 9]), 2)
    assert list(listed) == [
        'HorizontalFlip',
        'ColorJitter',
        'Rotate',
        'Rotate#2',
    ]
    assert set(listed['ColorJitter']) == {
        'factors',
        'order',
        'hue',
        'hue_place',
    }
    one = network.view_parameters(torch.tensor([9]), 2)
    assert torch.equal(one['Rotate']['angle'], listed['Rotate']['angle'][1:])
    assert (listed['Rotate']['angle'] != listed['Rotate#2']['angle']).all()


def test_everything_that_decides_pixels_changes_the_fingerprint():
    known = dict(augment=HKD, seed=1, num_views=2)
    base = PackedPreprocessor(**known).fingerprint()
    assert PackedPreprocessor(**known).fingerprint() == base
    spelled = [dict(HKD[0]), dict(HKD[1], prob=1.0), dict(HKD[2], fill=128)]
    assert PackedPreprocessor(**{**known, 'augment': spelled}).fingerprint() == base
    changes = [
        dict(seed=2),
        dict(num_views=3),
        dict(num_views=None),
        dict(augment=HKD[:2]),
        dict(augment=[HKD[1], HKD[0], HKD[2]]),
        dict(augment=[*HKD[:2], dict(HKD[2], degrees=11)]),
        dict(mean=[127.5, 127.5, 127.0]),
        dict(std=[127.5, 127.5, 127.0]),
        dict(to_rgb=False),
        dict(input_size=100),
    ]
    found = {
        PackedPreprocessor(**{**known, **change}).fingerprint() for change in changes
    }
    assert len(found) == len(changes) and base not in found


def test_the_fingerprint_stays_what_it_is():
    """A change here makes every teacher cache stale."""
    assert PackedPreprocessor(augment=EVERYTHING).fingerprint() == FROZEN


def test_pixels_stay_what_they_are(photos):
    """A change here asks for another CODE_VERSION: caches would be stale."""
    network = PackedPreprocessor(augment=EVERYTHING)
    found = network.augment(photos, torch.arange(6), 1, torch.arange(6) % 4)
    weights = torch.linspace(0, 1, found[0].numel()).view(found[0].shape)
    sums = (found * weights).sum((1, 2, 3))
    assert (sums - torch.tensor(PIXELS)).abs().max() < 0.5, sums


@pytest.mark.parametrize('training', [True, False])
def test_images_with_a_margin_come_out_in_the_input_size(training):
    data = batch(4, 40)
    for augment in (HKD, EVERYTHING):
        network = PackedPreprocessor(augment=augment, input_size=32)
        found = network(data, training=training)['inputs']
        assert found.shape == (4, 3, 32, 32) and found.abs().max() <= 1
    flat = dict(data, inputs=torch.full_like(data['inputs'], 200))
    found = PackedPreprocessor(input_size=32)(flat, training)['inputs']
    assert torch.allclose(found, torch.tensor((200 - 127.5) / 127.5))


def test_in_autocast_the_images_are_the_same():
    data, network = batch(6), PackedPreprocessor(augment=EVERYTHING)
    want = network(data, training=True)['inputs']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = network(data, training=True)['inputs']
    assert torch.equal(found, want)


def test_teachers_with_other_statistics_are_served():
    student = PackedPreprocessor(to_rgb=True)
    teacher = ClsDataPreprocessor([100.0, 110.0, 120.0], [50.0, 51.0, 52.0])
    data = batch(4)
    images = InputConversion(student, teacher)(student(data)['inputs'])
    bgr = data['inputs'].flip(-1).permute(0, 3, 1, 2)
    assert torch.allclose(images, teacher(dict(inputs=bgr))['inputs'], atol=1e-5)


def test_it_is_built_by_name_and_tells_mistakes():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        network = MODELS.build(dict(type='hkd_mm.PackedPreprocessor', augment=HKD))
    with pytest.raises(UserError, match='hkd_mm.PackedDataset'):
        network(dict(inputs=[torch.zeros(3, 8, 8)]), training=True)
    with pytest.raises(UserError, match=r'augment\[1\] \(hkd_mm.Rotate\)'):
        PackedPreprocessor(augment=[HKD[0], dict(type='hkd_mm.Rotate', angle=3)])
    for wrong in (
        dict(type='hkd_mm.NoSuch'),
        dict(prob=1.0),
        dict(type='hkd_mm.GTLabels'),
    ):
        with pytest.raises(UserError, match=r'augment\[0\]'):
            PackedPreprocessor(augment=[wrong])
    with pytest.raises(UserError, match='num_views: Input should be greater'):
        PackedPreprocessor(num_views=0)
    with pytest.raises(UserError, match="padding: .* not 'zeros'"):
        PackedPreprocessor(augment=[dict(type='hkd_mm.Rotate', padding='zeros')])


FROZEN = '15dae7637fefb70c481cd0658405fa0b7a214001cacbd7bc4e3ebef10c880ca3'
PIXELS = [114.67, 554.89, -311.71, -1697.36, 1153.96, 803.33]
