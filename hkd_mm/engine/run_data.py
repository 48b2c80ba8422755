# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The split and the image preparation that a network is trained on."""

import re
from typing import Any

import torch
from torch import nn

from hkd_mm.errors import UserError


def split_hash(dataset) -> str | None:
    """Hash of the split of a data set, through wrappers like repetition."""
    return _of(dataset, 'split_hash')


def _of(dataset: Any, name: str) -> Any:
    while not hasattr(dataset, name) and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return getattr(dataset, name, None)


def preparation(dataset: Any, preprocessor: nn.Module) -> dict[str, Any]:
    """Describe what a network is trained on, so far as a resumed run must have it.

    Returns:
        ``size`` and ``interpolation`` as of :func:`image_input`, ``steps`` that crop or
        resize, ``unlabelled_root`` as the hash of its images, and of the preprocessor
        ``mean``, ``std``, ``to_rgb`` and ``window``.
    """
    found = image_input(dataset, preprocessor) or dict(steps=[])
    found['steps'] = [s for s in found['steps'] if re.search('crop|resize', s.lower())]
    found['unlabelled_root'] = _of(dataset, 'unlabelled_hash')
    for name in ('mean', 'std', 'to_rgb', '_channel_conversion', 'window'):
        value = getattr(preprocessor, name, None)
        value = value.flatten().tolist() if torch.is_tensor(value) else value
        found[name] = list(value) if isinstance(value, tuple) else value
    return found


def check_resumed(
    checkpoint: dict[str, Any], dataset: Any, preprocessor: nn.Module, name: str
) -> None:
    """Let a run go on only on the data it was begun on, prepared equally.

    Raises:
        UserError: it holds weights only; the data have another split now, so images
            that the network was trained on would validate it; or they are prepared
            in another way.
    """
    meta = checkpoint.get('meta') or {}
    parts = [checkpoint.get('optimizer'), checkpoint.get('message_hub')]
    steps = [meta.get('epoch'), meta.get('iter')]
    if not (
        all(isinstance(part, dict) for part in parts)
        and all(isinstance(step, int) and step >= 0 for step in steps)
    ):
        raise UserError(
            f'{name} holds weights only and cannot be resumed from; '
            'give an epoch_N.pth of this run, or start from the '
            'weights with --cfg-options load_from=FILE'
        )
    there, here = meta.get('split_hash'), split_hash(dataset)
    way = 'or begin again without --resume in another --work-dir'
    if there is not None and there != here:
        raise UserError(
            f'{name} was trained on split {there[:8]}, but data_root, '
            f'split_file or split_seed now give another split '
            f'({(here or "none")[:8]}); set them back, {way}'
        )
    stored = meta.get('preparation') or {}
    for key, value in preparation(dataset, preprocessor).items():
        # packed images know no steps, and some pipelines no size
        unknown = (None, []) if key in ('size', 'interpolation', 'steps') else ()
        there = stored.get(key, value)
        if there != value and not (there in unknown or value in unknown):
            raise UserError(
                f'{name} was trained with {key}={there} of the images, this config '
                f'has {value}; set it back, {way}'
            )


_NEUTRAL = ('LoadSkinImage', 'LoadImageFromFile', 'PackInputs')


def image_input(
    dataset: Any, preprocessor: nn.Module | None = None
) -> dict[str, Any] | None:
    """Describe how a data set prepares images, packed or by a pipeline.

    Args:
        dataset: of an evaluation, built; wrappers are looked through.
        preprocessor: that its images go to; its ``input_size``, where set,
            is the side that the model gets.

    Returns:
        ``size`` [H, W] in pixels (None where it depends on the image),
        ``interpolation`` of the resize, and ``steps``, texts of what else
        changes the images; None where the data set is of another kind.
    """
    while dataset is not None:
        if hasattr(dataset, 'interpolation') and hasattr(dataset, 'margin'):
            found = dict(
                size=[round(dataset.size * dataset.margin)] * 2,
                interpolation=dataset.interpolation,
                steps=[f'margin={dataset.margin:g}'] * (dataset.margin != 1),
            )
            break
        if hasattr(dataset, 'pipeline') and not hasattr(dataset, 'dataset'):
            found = _of_pipeline(dataset.pipeline)
            break
        inner = getattr(dataset, 'datasets', None) or [None]
        dataset = getattr(dataset, 'dataset', inner[0])
    else:
        return None
    if found is not None and getattr(preprocessor, 'input_size', None):
        found['size'] = [preprocessor.input_size] * 2
    return found


def training_input(
    dataset: Any, preprocessor: nn.Module | None = None
) -> dict[str, Any] | None:
    """Describe the resize of a training data set, for runs unvalidated.

    As :func:`image_input`, without steps, which augment; None where a crop decides on
    the size, or nothing resizes.
    """
    found = image_input(dataset, preprocessor)
    if found is None or found['size'] is None:
        return None
    if any('crop' in step.lower() for step in found['steps']):
        return None
    return dict(found, steps=[])


def _of_pipeline(pipeline: Any) -> dict[str, Any] | None:
    steps = getattr(pipeline, 'transforms', None)
    if not steps:
        return None
    found = dict(size=None, interpolation=None, steps=[])
    for step in steps:
        kind = type(step).__name__
        if kind in _NEUTRAL:
            continue
        plain = kind == 'Resize' and step.scale and not step.keep_ratio
        if plain and found['size'] is None and step.backend == 'cv2':
            found['size'] = [int(side) for side in step.scale[::-1]]
            found['interpolation'] = step.interpolation
        else:
            found['steps'].append(re.sub(' at 0x[0-9a-f]+', '', repr(step)))
    return found
