# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Flips, turns and crops against torchvision, pixel by pixel."""

import mmcv
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torchvision.transforms import InterpolationMode

from hkd_mm.errors import UserError
from hkd_mm.models.preprocessors.augmentation import box_in_pixels
from hkd_mm.models.preprocessors.pipeline import Pipeline

BILINEAR = InterpolationMode.BILINEAR
LEVEL = 0.02  # of 255: what float32 coordinates can be off


def run(pipeline, images, parameters, size=None):
    """Apply a pipeline, uint8 (B, H, W, 3) -> float32 planar."""
    size = size or tuple(images.shape[1:3])
    out = torch.empty(len(images), 3, *size)
    pipeline.apply(images, parameters, size, out, lambda found, part: part.copy_(found))
    return out


def drawn(*names, images, view=0, **arguments):
    """Pipeline, its parameters and result for a batch."""
    configs = [dict(type=f'hkd_mm.{name}', **arguments.get(name, {})) for name in names]
    pipeline = Pipeline(configs)
    parameters = pipeline.parameters(7, view, torch.arange(len(images)))
    return pipeline, parameters, run(pipeline, images, parameters)


@pytest.mark.parametrize(
    'name, flip',
    [
        ('HorizontalFlip', tv.horizontal_flip),
        ('VerticalFlip', tv.vertical_flip),
    ],
)
def test_flips_move_whole_pixels(name, flip, photos, planar):
    _, parameters, found = drawn(name, images=photos)
    chosen = parameters[name]['flip']
    assert chosen.any() and not chosen.all()
    for i in range(len(photos)):
        want = flip(planar[i]) if chosen[i] else planar[i]
        assert torch.equal(found[i], want)


def test_quarter_turns_move_whole_pixels(photos, planar):
    photos, planar = photos.repeat(3, 1, 1, 1), planar.repeat(3, 1, 1, 1)
    _, parameters, found = drawn('Rotate90', images=photos)
    turns = parameters['Rotate90']['turns']
    assert set(turns.tolist()) == {0, 1, 2, 3}
    for image, k, result in zip(planar, turns.tolist(), found):
        assert torch.equal(result, torch.rot90(image, k, (1, 2)))
    with pytest.raises(UserError, match='quarter turns need square'):
        drawn('Rotate90', images=photos[:, :30])


@pytest.mark.parametrize('fill', [0.0, 128.0])
@pytest.mark.parametrize('height', [40, 27])
def test_rotation_equals_torchvision(fill, height, photos, planar):
    """Wherever no pixel of the edge is blended with the fill."""
    _, parameters, found = drawn(
        'Rotate', images=photos[:, :height], Rotate=dict(degrees=25, fill=fill)
    )
    for i, angle in enumerate(parameters['Rotate']['angle'].tolist()):
        want, inside = (
            tv.rotate(image, angle, BILINEAR, fill=[value] * 3)
            for image, value in (
                (planar[i, :, :height], fill),
                (torch.ones(3, height, 40), 0.0),
            )
        )
        edge = (inside > 0) & (inside < 1 - 1e-5)
        assert edge.float().mean() < 0.12
        assert (found[i] - want)[~edge].abs().max() < LEVEL


@pytest.mark.parametrize('fill', [0.0, 128.0])
def test_rotation_and_its_edge_equal_opencv(fill, photos):
    """OpenCV rounds places to 1/32 pixel: near, not equal; smooth images."""
    smooth = photos[[0, 0, 4, 5]]
    smooth[3] = 70
    _, parameters, found = drawn(
        'Rotate', images=smooth, Rotate=dict(degrees=25, fill=fill)
    )
    for i, angle in enumerate(parameters['Rotate']['angle'].tolist()):
        want = mmcv.imrotate(
            smooth[i].float().numpy(), -angle, border_value=(fill,) * 3
        )
        off = (found[i] - torch.from_numpy(want).permute(2, 0, 1)).abs()
        assert off.max() < 255 / 32 and off.mean() < 0.35


@pytest.mark.parametrize('padding', ['border', 'reflection'])
def test_padded_corners_repeat_the_image(padding, photos):
    white = torch.full_like(photos, 200)
    _, _, found = drawn(
        'Rotate', images=white, Rotate=dict(degrees=45, padding=padding)
    )
    assert (found - 200).abs().max() < LEVEL


@pytest.mark.parametrize('size', [(24, 24), (40, 40), (30, 36)])
def test_crop_equals_torchvision(size, photos, planar):
    pipeline = Pipeline([dict(type='hkd_mm.RandomResizedCrop', scale=(0.3, 1.0))])
    parameters = pipeline.parameters(7, 0, torch.arange(6))
    found = run(pipeline, photos, parameters, size)
    box = box_in_pixels(parameters['RandomResizedCrop'], (40, 40))
    for i, one in enumerate(zip(*(side.int().tolist() for side in box))):
        assert 1 <= min(one[2:]) and one[0] + one[2] <= 40
        assert one[1] + one[3] <= 40
        want = tv.resized_crop(planar[i], *one, list(size), BILINEAR, antialias=False)
        off = (found[i] - want).abs()[:, 2:-2, 2:-2]
        assert off.max() < LEVEL  # at the edge neighbours are read


def test_boxes_have_the_areas_and_ratios_asked_for():
    pipeline = Pipeline(
        [
            dict(
                type='hkd_mm.RandomResizedCrop',
                scale=(0.5, 0.8),
                ratio=(0.8, 1.25),
            )
        ]
    )
    drawn = pipeline.parameters(0, 0, torch.arange(20000))
    drawn = drawn['RandomResizedCrop']
    top, left, tall, wide = box_in_pixels(drawn, (400, 400))
    area = tall * wide / 400**2
    assert 0.49 < area.min() < 0.51 and 0.79 < area.max() < 0.81
    assert abs(area.mean() - 0.65) < 0.005
    ratio = (wide / tall).log()
    assert abs(ratio.mean()) < 0.005 and ratio.abs().max() < 0.24
    room = top / (400 - tall).clamp(min=1)
    assert abs(room.mean() - 0.5) < 0.02 and room.max() <= 1


def test_a_flip_and_a_turn_are_one_interpolation(photos):
    pipeline, parameters, found = drawn('HorizontalFlip', 'Rotate', images=photos)
    assert pipeline.stages == [['HorizontalFlip', 'Rotate']]
    turn = Pipeline([dict(type='hkd_mm.Rotate')])
    flip = parameters['HorizontalFlip']['flip']
    flipped = torch.where(flip[:, None, None, None], photos.flip(2), photos)
    want = run(turn, flipped, dict(Rotate=parameters['Rotate']))
    assert flip.any() and (found - want).abs().max() < LEVEL


@pytest.mark.parametrize(
    'before', [('VerticalFlip', 'Rotate90'), ('Rotate90', 'HorizontalFlip')]
)
def test_exact_moves_compose_in_the_order_of_the_list(before, photos):
    """Whole pixels, then the same as part of one affine map."""
    exact, parameters, moved = drawn(*before, images=photos)
    assert exact.stages == [list(before)]
    joined, _, found = drawn(*before, 'Rotate', images=photos, Rotate=dict(degrees=0.0))
    assert joined.stages == [[*before, 'Rotate']]
    assert (found - moved).abs().max() < LEVEL * 2


def test_a_turn_and_a_crop_read_where_both_say():
    """On a linear ramp one interpolation and two give the same."""
    y, x = torch.meshgrid(torch.arange(40), torch.arange(40), indexing='ij')
    ramp = torch.stack([3 * x + 50, 4 * y + 20, 2 * x + 2 * y], -1)
    ramp = ramp.to(torch.uint8)[None]
    pipeline, parameters, found = drawn(
        'Rotate',
        'RandomResizedCrop',
        images=ramp,
        view=1,
        Rotate=dict(degrees=20),
        RandomResizedCrop=dict(scale=(0.3, 0.4)),
    )
    assert len(pipeline.stages) == 1
    turned = run(Pipeline([dict(type='hkd_mm.Rotate')]), ramp, parameters)
    box = box_in_pixels(parameters['RandomResizedCrop'], (40, 40))
    want = tv.resized_crop(
        turned[0],
        *(int(side) for side in box),
        [40, 40],
        BILINEAR,
        antialias=False,
    )
    off = (found[0] - want).abs()[:, 2:-2, 2:-2]
    assert off.max() < LEVEL


@pytest.mark.parametrize(
    'names, stages',
    [
        (
            ['HorizontalFlip', 'ColorJitter', 'Rotate'],
            ['ColorJitter', ['HorizontalFlip', 'Rotate']],
        ),
        (
            ['HorizontalFlip', 'ColorJitter'],
            [['HorizontalFlip'], 'ColorJitter'],
        ),
        (
            ['HorizontalFlip', 'RandAugment', 'Rotate'],
            [['HorizontalFlip'], 'RandAugment', ['Rotate']],
        ),
        (
            ['Rotate', 'ColorJitter', 'RandomResizedCrop'],
            [['Rotate'], 'ColorJitter', ['RandomResizedCrop']],
        ),
        (
            ['RandomResizedCrop', 'HorizontalFlip', 'Rotate', 'RandomErasing'],
            [
                ['RandomResizedCrop', 'HorizontalFlip', 'Rotate'],
                'RandomErasing',
            ],
        ),
    ],
)
def test_what_is_composed_with_what(names, stages):
    assert Pipeline([dict(type=f'hkd_mm.{n}') for n in names]).stages == stages


def test_turns_with_other_corners_are_not_composed():
    pipeline = Pipeline(
        [dict(type='hkd_mm.Rotate'), dict(type='hkd_mm.Rotate', fill=0.0)]
    )
    assert pipeline.stages == [['Rotate'], ['Rotate#2']]


def test_distributions():
    pipeline = Pipeline(
        [
            dict(type='hkd_mm.HorizontalFlip'),
            dict(type='hkd_mm.Rotate90'),
            dict(type='hkd_mm.Rotate', degrees=10),
            dict(type='hkd_mm.Rotate', degrees=10, prob=0.3),
        ]
    )
    drawn = pipeline.parameters(0, 5, torch.arange(20000))
    assert abs(drawn['HorizontalFlip']['flip'].float().mean() - 0.5) < 0.015
    counts = torch.bincount(drawn['Rotate90']['turns'], minlength=4)
    assert (counts / 20000 - 0.25).abs().max() < 0.015
    angle = drawn['Rotate']['angle'].sort().values
    uniform = torch.linspace(-10, 10, 20000)
    assert (angle - uniform).abs().max() < 0.3  # Kolmogorov-Smirnov 0.015
    turned = drawn['Rotate#2']['angle'] != 0
    assert abs(turned.float().mean() - 0.3) < 0.015
