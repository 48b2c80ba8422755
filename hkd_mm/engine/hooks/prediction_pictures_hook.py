# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Each tested image with what the net says about it."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.hooks import Hook
from PIL import Image, ImageDraw

from hkd_mm.registry import HOOKS

_SIDE = 224  # pixels of the shown image's shorter side, at least
_LINE = 14  # pixels a line of Pillow's own font needs


@HOOKS.register_module()
class PredictionPicturesHook(Hook):
    """Write every test image with its label and prediction under it.

    In place of mmpretrain's ``VisualizationHook``, which swaps red and blue,
    names files by the image's base name alone, so that class folders
    overwrite each other, and writes over the image.

    Args:
        out_dir: gets ``right`` and ``wrong``, in them ``<sample id>.png``.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = Path(out_dir)

    def after_test_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Write the pictures of one batch.

        Args:
            runner: its test data set names the classes.
            batch_idx: not used.
            data_batch: ``inputs`` holds uint8 images (3, H, W), BGR.
            outputs: data samples with ``pred_score`` (C,) and ``gt_label``.
        """
        classes = runner.test_loop.dataloader.dataset.metainfo['classes']
        for image, sample in zip(data_batch['inputs'], outputs):
            label = int(sample.gt_label)
            guess = int(sample.pred_score.argmax())
            score = float(sample.pred_score[guess])
            name = sample.get('sample_id') or sample.get('img_path')
            folder = self.out_dir / ('right' if guess == label else 'wrong')
            folder.mkdir(parents=True, exist_ok=True)
            file = re.sub(r'[^\w.-]+', '_', str(name)).strip('_')
            _draw(
                image,
                f'true: {classes[label]}',
                f'predicted: {classes[guess]} {score:.2f}',
            ).save(folder / f'{file}.png')


def _draw(image: torch.Tensor, *lines: str) -> Image.Image:
    rgb = image.flip(0).permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    picture = Image.fromarray(rgb)
    scale = max(1, -(-_SIDE // min(picture.size)))
    picture = picture.resize(
        [side * scale for side in picture.size], Image.Resampling.BICUBIC
    )
    whole = Image.new(
        'RGB',
        (picture.width, picture.height + _LINE * len(lines) + 4),
        'white',
    )
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        draw.text((4, picture.height + 2 + number * _LINE), line, 'black')
    return whole
