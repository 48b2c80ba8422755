# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How a run prepares its validation images, as far as it can be repeated."""

import inspect
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest_fields import InputSpec

from ..config.tree import packed_datasets

_STEPS = ('LoadSkinImage', 'Resize', 'PackInputs')


def innermost(loader: dict) -> dict:
    """The config of a loader's data set, without what wraps it."""
    node = loader['dataset']
    while 'dataset' in node:
        node = node['dataset']
    return node


def check_loaders(cfg: Config) -> None:
    """Refuse a config without the loaders that an export reads.

    Raises:
        UserError: one is missing.
    """
    if not cfg.get('val_dataloader') or not cfg.get('train_dataloader'):
        raise UserError(
            'an export needs val_dataloader and train_dataloader in the config'
        )


def classifier_spec(cfg: Config, statistics: dict, swapped: bool) -> InputSpec:
    """Of a run on photographs.

    Args:
        cfg: of the run.
        statistics: its data preprocessor.
        swapped: the net takes BGR.

    Raises:
        UserError: photographs are prepared in another way than reading and
            one resize by area.
    """
    check_loaders(cfg)
    mean = statistics.get('mean') or [0.0] * 3
    std = statistics.get('std') or [1.0] * 3
    return _spec(_resize(cfg), 'RGB', mean, std, swapped)


def segmentor_spec(
    cfg: Config, statistics: dict, swapped: bool, channels: int
) -> InputSpec:
    """Of a run on packed images with masks.

    Args:
        cfg: of the run.
        statistics: its data preprocessor.
        swapped: the net takes BGR.
        channels: of the net.

    Raises:
        UserError: the validation images are not ``hkd_mm.PackedMasks`` at
            the size that the net takes, or not of its channels.
    """
    check_loaders(cfg)
    packed = cfg.val_dataloader['dataset']
    kind = str(packed.get('type', '')).rsplit('.', 1)[-1]
    if kind != 'PackedMasks':
        raise UserError(
            'an export of a segmentor repeats hkd_mm.PackedMasks; the '
            f'val_dataloader of the run has {kind or "no data set"}'
        )
    known = inspect.signature(DATASETS.get(packed['type'])).parameters
    side, margin, interpolation = (
        packed.get(name, known[name].default)
        for name in ('size', 'margin', 'interpolation')
    )
    asked = statistics.get('input_size') or side
    if interpolation != 'area' or margin != 1 or asked != side:
        raise UserError(
            'an export of a segmentor repeats images packed by area, without '
            'a margin, at the size that the net takes; the val_dataloader of '
            f'the run has interpolation={interpolation!r}, margin={margin}, '
            f'size={side}, and its input_size is {asked}'
        )
    bits = _setting(innermost(cfg.val_dataloader), 'bits')
    found = _setting(innermost(cfg.val_dataloader), 'channels')
    if found != channels:
        raise UserError(
            f'the images of val_dataloader have {found} channels and the net '
            f'takes {channels}'
        )
    window = statistics.get('window')
    return _spec(
        (side, side),
        'RGB' if channels == 3 else 'grey',
        statistics['mean'],
        statistics['std'],
        swapped,
        bits=bits,
        window=None if window is None else tuple(map(float, window)),
    )


def _packed_side(node: dict) -> tuple[int, int]:
    known = inspect.signature(DATASETS.get(node['type'])).parameters
    side, margin, interpolation = (
        node.get(name, known[name].default)
        for name in ('size', 'margin', 'interpolation')
    )
    if interpolation != 'area' or margin != 1:
        raise UserError(
            'an export repeats images packed by area, without a margin; the '
            f'val_dataloader of the run has interpolation={interpolation!r}, '
            f'margin={margin}'
        )
    return side, side


def _setting(node: dict, name: str) -> Any:
    """Of a data set's config, else of its class."""
    if node.get(name) is not None:
        return node[name]
    return getattr(DATASETS.get(node['type']), name)


def _spec(
    size: tuple[int, int],
    colour: str,
    mean: list[float],
    std: list[float],
    swapped: bool,
    **more,
) -> InputSpec:
    if swapped:
        mean, std = mean[::-1], std[::-1]
    return InputSpec(
        size,
        'area',
        colour,
        tuple(map(float, mean)),
        tuple(map(float, std)),
        **more,
    )


def _resize(cfg: Config) -> tuple[int, int]:
    """(H, W) of the validation's resize, if that is all it does."""
    for loader, node in packed_datasets(cfg):
        if loader == 'val_dataloader':
            return _packed_side(node)
    pipeline = innermost(cfg.val_dataloader).get('pipeline') or []
    steps = {step['type'].rsplit('.', 1)[-1]: step for step in pipeline}
    other = [name for name in steps if name not in _STEPS]
    if other or not {'LoadSkinImage', 'Resize'} <= set(steps):
        raise UserError(
            'an export repeats hkd_mm.LoadSkinImage and Resize; the '
            'val_dataloader of the run has '
            f'{", ".join(other or steps) or "no step"}'
        )
    resize = steps['Resize']
    kind = resize.get('interpolation', 'bilinear')
    scale = resize.get('scale')
    if kind != 'area' or resize.get('keep_ratio') or scale is None:
        raise UserError(
            "an export resizes with interpolation='area' to one size; the "
            f'val_dataloader of the run has {dict(resize)}'
        )
    wide, high = (scale, scale) if isinstance(scale, int) else scale
    return int(high), int(wide)
