# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Pictures of tested images with truth and prediction."""

import hashlib
import re
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from mmengine.hooks import Hook
from PIL import Image, ImageDraw

from hkd_mm.evaluation import segmentation_scores
from hkd_mm.io.picture_text import draw_line, drawable
from hkd_mm.registry import HOOKS
from hkd_mm.structures.mask_samples import IGNORE
from hkd_mm.structures.packed_samples import masks_of, row_of

_SIDE = 224  # pixels of a panel, at least
_LINE = 16  # pixels that a line of text needs
# of class 1, 2, ...; apart for those who do not tell red from green
_COLOURS = ((230, 159, 0), (86, 180, 233), (204, 121, 167), (240, 228, 66))


@HOOKS.register_module()
class MaskPicturesHook(Hook):
    """Write every test image, its truth and its prediction side by side.

    Masks are outlines, a colour for each class; the Dice of the slice, the mean over
    its classes, stands below. ``out_dir`` gets ``<sample id>.png``, see
    :func:`file_name`.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = Path(out_dir)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Write the pictures of ``inputs`` (B, h, w, C) uint8 or uint16."""
        [found] = outputs  # MaskPredictions
        ids = runner.test_loop.dataloader.dataset.store.ids
        probabilities = found['batch_probabilities']
        classes = max(probabilities.shape[1], 2)
        threshold = segmentation_scores.threshold_of(runner.test_evaluator)
        predicted = masks_of(probabilities, threshold)
        network = getattr(runner.model, 'module', runner.model)
        images = data_batch['inputs']
        if getattr(network.data_preprocessor, 'window', None) is not None:
            images = network.data_preprocessor.windowed(images).round().to(torch.uint8)
        images = [as_rgb(image) for image in images.cpu().numpy()]
        masks = [part.cpu().numpy() for part in (found['batch_masks'], predicted)]
        rows = row_of(found['batch_index']).tolist()
        self.out_dir.mkdir(parents=True, exist_ok=True)
        for image, truth, guess, row in zip(images, *masks, rows):
            counts = segmentation_scores.confusion_counts(guess, truth, classes)
            dice = segmentation_scores.overlap_scores(counts)['dice'].mean()
            panels = dict(image=None, truth=truth, prediction=guess)
            drawn = draw_panels(fitted(image, truth.shape), panels, f'Dice {dice:.2f}')
            drawn.save(self.out_dir / f'{file_name(ids[row])}.png')


def file_name(sample_id: str) -> str:
    """A name of one file for a sample id, another one for each.

    Folders are told apart by ``+``; what is neither a letter, a digit nor one
    of ``_.-`` is written as in an URL. A long name ends with its hash.
    """
    parts = sample_id.split('/')
    escaped = partial(quote, safe='', errors='surrogatepass')
    odd = re.compile(r'[^\w.-]')
    name = '+'.join(odd.sub(lambda found: escaped(found[0]), part) for part in parts)
    raw = name.encode()
    if len(raw) <= 200:  # of the 255 bytes that file systems take
        return name
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return f'{raw[:180].decode(errors="ignore")}-{digest}'


def fitted(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image in the size of its mask, which is that of the network."""
    if rgb.shape[:2] == size:
        return rgb
    small = Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BOX)
    return np.asarray(small)


def as_rgb(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 of (h, w, C) uint8, or of uint16, stretched over its values."""
    if image.dtype != np.uint8:
        values = image.astype(np.float32)
        low, high = values.min(), values.max()
        image = 255 * (values - low) / max(float(high - low), 1.0)
        image = image.round().astype(np.uint8)
    return np.repeat(image, 3, -1) if image.shape[-1] == 1 else image


def draw_panels(
    rgb: np.ndarray, panels: dict[str, np.ndarray | None], *lines: str
) -> Image.Image:
    """An image several times, each with the outlines of a mask.

    ``panels`` are title -> mask (h, w), None for the bare image; ``lines`` stand below.
    """
    scale = max(1, -(-_SIDE // min(rgb.shape[:2])))
    size = rgb.shape[1] * scale, rgb.shape[0] * scale
    bare = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
    top = _LINE * any(panels)
    height = top + size[1] + _LINE * len(lines)
    whole = Image.new('RGB', (size[0] * len(panels), height), 'white')
    draw = ImageDraw.Draw(whole)
    for place, (title, mask) in enumerate(panels.items()):
        shown = bare if mask is None else outlined(bare, mask, scale)
        whole.paste(Image.fromarray(shown), (place * size[0], top))
        draw_line(draw, (place * size[0] + 4, 0), title, size[0] - 8)
    for place, line in enumerate(lines):
        below = top + size[1] + _LINE * place
        draw_line(draw, (4, below), line, whole.width - 8)
    return whole


def outlined(rgb: np.ndarray, mask: np.ndarray, scale: int) -> np.ndarray:
    """An image (h * scale, w * scale, 3) uint8 with the outlines of a mask (h, w)."""
    from scipy.ndimage import binary_erosion

    rgb = rgb.copy()
    large = mask.repeat(scale, 0).repeat(scale, 1)
    for label in np.unique(large[(large > 0) & (large != IGNORE)]):
        inside = large == label
        edge = inside & ~binary_erosion(inside, iterations=max(1, scale // 2))
        rgb[edge] = _COLOURS[(label - 1) % len(_COLOURS)]
    return rgb


@HOOKS.register_module()
class PredictionPicturesHook(Hook):
    """Write every test image with its label and prediction under it.

    In place of mmpretrain's ``VisualizationHook``, which swaps red and blue,
    names files by the image's base name alone, so that class folders
    overwrite each other, and writes over the image. ``out_dir`` gets ``right`` and
    ``wrong``, in them ``<sample id>.png``, see :func:`file_name`.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = Path(out_dir)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        classes = runner.test_loop.dataloader.dataset.metainfo['classes']
        for image, sample in zip(data_batch['inputs'], outputs):
            label = int(sample.gt_label)
            guess = int(sample.pred_score.argmax())
            score = float(sample.pred_score[guess])
            folder = self.out_dir / ('right' if guess == label else 'wrong')
            folder.mkdir(parents=True, exist_ok=True)
            named = [drawable(classes[i])[0] or f'class {i}' for i in (label, guess)]
            lines = [f'true: {named[0]}', f'predicted, {score:.2f}: {named[1]}']
            rgb = image.flip(0).permute(1, 2, 0).to(torch.uint8).cpu().numpy()
            name = sample.get('sample_id') or sample.get('img_path')
            path = folder / f'{file_name(str(name))}.png'
            draw_panels(rgb, {'': None}, *lines).save(path)
