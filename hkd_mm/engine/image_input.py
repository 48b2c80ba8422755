# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What becomes of an image before a model gets it: size and resize rule."""

from typing import Any

from torch import nn

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

    Args:
        dataset: of the training, built.
        preprocessor: as of :func:`image_input`.

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
