# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The paper's augmentation, batched, against mmpretrain's transforms.

Stock rounds to 8 bits after each step, its hue to 1/255 of a turn and its
places to 1/32 pixel; nothing is rounded here. With the same parameters that
is the whole difference.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.datasets.transforms import ColorJitter, RandomFlip, Rotate

from hkd_mm.config.compose import compose_config
from hkd_mm.config.packing import batched
from hkd_mm.models.preprocessors.packed_preprocessor import PackedPreprocessor

BASE = (
    Path(__file__).resolve().parents[3] / 'configs/_base_/datasets/skin_disease_116.py'
)


def photographs(number, side=116):
    """Coloured blobs on skin, uint8 (B, H, W, 3)."""
    generator = torch.Generator().manual_seed(8)
    coarse = torch.rand(number, 3, 8, 8, generator=generator)
    smooth = F.interpolate(coarse, (side, side), mode='bicubic')
    skin = torch.tensor([205.0, 160.0, 140.0]).view(1, 3, 1, 1)
    grain = torch.randn(number, 3, side, side, generator=generator)
    images = skin + 110 * (smooth - 0.5) + 4 * grain
    return images.clamp(0, 255).permute(0, 2, 3, 1).round().to(torch.uint8)


def recipe():
    """The steps of the config that stand between loading and packing."""
    cfg = compose_config(BASE, dict(packed=False))
    return [
        dict(step)
        for step in cfg.train_dataloader.dataset.pipeline
        if step['type'].rsplit('.', 1)[-1]
        not in ('LoadSkinImage', 'Resize', 'PackInputs')
    ]


def stock(image, drawn, i, steps):
    """mmpretrain's three transforms with the parameters of sample ``i``."""
    flip, jitter, turn = (dict(step) for step in steps)
    for step in (flip, jitter, turn):
        step.pop('type')
    jitter = ColorJitter(**jitter)
    drawn_jitter = drawn['ColorJitter']
    order = drawn_jitter['order'][i].tolist()
    order.insert(drawn_jitter['hue_place'], 3)
    jitter._rand_params = lambda: (
        order,
        *drawn_jitter['factors'][i].tolist(),
        float(drawn_jitter['hue'][i]),
    )
    results = dict(img=np.ascontiguousarray(image.numpy()[..., ::-1]))
    if drawn['HorizontalFlip']['flip'][i]:
        results = RandomFlip(prob=1.0)(results)
    results = jitter(results)
    angle = -float(drawn['Rotate']['angle'][i])  # clockwise there
    # Its default pad_val=128 fills blue alone: OpenCV takes a number for the
    # first channel and 0 for the others.
    results = Rotate(
        angle=angle,
        prob=1.0,
        random_negative_prob=0.0,
        pad_val=(128, 128, 128),
        interpolation=turn['interpolation'],
    )(results)
    return torch.from_numpy(results['img'][..., ::-1].copy())


@pytest.mark.filterwarnings('ignore')
def test_the_recipe_gives_the_pixels_of_the_stock_pipeline():
    images, index = photographs(24), torch.arange(24)
    network = PackedPreprocessor(mean=[0] * 3, std=[1] * 3, augment=batched(recipe()))
    offs = []
    for view in range(4):  # the hue's place differs between views
        drawn = network.view_parameters(index, view)
        found = network.augment(images, index, view).permute(0, 2, 3, 1)
        for i in range(24):
            want = stock(images[i], drawn, i, recipe()).float()
            offs.append((found[i] - want).abs())
    off = torch.stack(offs)
    assert off.mean() < 1.8
    assert off.flatten(1).mean(1).max() < 3.5
    assert off.max() < 16


def test_the_recipe_is_the_papers():
    augment = Config.fromfile(BASE).data_preprocessor.augment
    assert batched(recipe()) == [
        dict(type='hkd_mm.HorizontalFlip', prob=0.5),
        dict(
            type='hkd_mm.ColorJitter',
            brightness=0.3,
            contrast=0.3,
            saturation=0.3,
            hue=0.05,
        ),
        dict(type='hkd_mm.Rotate', degrees=10.0, prob=1.0, fill=128),
    ]
    stages = PackedPreprocessor(augment=augment).pipeline.stages
    assert stages == ['ColorJitter', ['HorizontalFlip', 'Rotate']]
