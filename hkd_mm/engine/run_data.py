# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The split and the image preparation that a network is trained on."""

from typing import Any

from torch import nn

from hkd_mm.errors import UserError


def split_hash(dataset) -> str | None:
    """Hash of the split of a data set, through wrappers like repetition."""
    while not hasattr(dataset, 'split_hash') and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return getattr(dataset, 'split_hash', None)


def check_resumed_split(meta: dict[str, Any], dataset, name: str) -> None:
    """Let a run go on only on the split it was begun on.

    Raises:
        UserError: the data have another split now, so images that the network
            was trained on would validate it.
    """
    there, here = meta.get('split_hash'), split_hash(dataset)
    if there is not None and there != here:
        raise UserError(
            f'{name} was trained on split {there[:8]}, but data_root, '
            f'split_file or split_seed now give another split '
            f'({(here or "none")[:8]}); set them back, or begin again without '
            '--resume in another --work-dir'
        )


_NEUTRAL = ('LoadSkinImage', 'LoadImageFromFile', 'PackInputs')


def image_input(
    dataset: Any, preprocessor: nn.Module | None = None
) -> dict[str, Any] | None:
    """Describe how a data set prepares images, packed or by a pipeline.

    A packed data set and a pipeline that resizes likewise give the same.

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
            found = _of_packed(dataset)
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

    Its other steps are augmentation and no part of an evaluation.

    Returns:
        As :func:`image_input`, without steps; None where a crop decides on
        the size, or nothing resizes.
    """
    found = image_input(dataset, preprocessor)
    if found is None or found['size'] is None:
        return None
    if any('crop' in step.lower() for step in found['steps']):
        return None
    return dict(found, steps=[])


def _of_packed(dataset: Any) -> dict[str, Any]:
    stored = round(dataset.size * dataset.margin)
    return dict(
        size=[stored, stored],
        interpolation=dataset.interpolation,
        steps=[f'margin={dataset.margin:g}'] if dataset.margin != 1 else [],
    )


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
            found['steps'].append(repr(step))
    return found
