# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Random steps of mmpretrain's pipelines and their batched counterparts."""

from collections.abc import Callable

from hkd_mm.errors import UserError

_NUMBER = (int, float)


def batched(steps: list[dict]) -> list[dict]:
    """The augmentations of a ``PackedPreprocessor`` that do the same.

    Args:
        steps: of mmpretrain, without loading, resizing and packing.

    Returns:
        ``dict(type='hkd_mm.X', ...)`` each.

    Raises:
        UserError: a step, or a way of using it, has no counterpart.
    """
    return [_batched(dict(step)) for step in steps]


def _batched(step: dict) -> dict:
    name = step.pop('type').rsplit('.', 1)[-1]
    turn = _TURNS.get(name)
    new = turn(step) if turn is not None else None
    if new is None:
        said = ', '.join(f'{key}={value!r}' for key, value in step.items())
        raise UserError(
            f'packed=True has no batched form of {name}({said}); name the '
            'augmentation yourself in a config with data_preprocessor=dict('
            "type='hkd_mm.PackedPreprocessor', augment=[...]), or set "
            'packed=False'
        )
    return new


def _flip(step: dict) -> dict | None:
    kinds = dict(
        horizontal='hkd_mm.HorizontalFlip', vertical='hkd_mm.VerticalFlip'
    )
    direction = step.pop('direction', 'horizontal')
    prob = step.pop('prob', None)
    if step or direction not in kinds or not isinstance(prob, _NUMBER):
        return None
    return dict(type=kinds[direction], prob=prob)


def _jitter(step: dict) -> dict | None:
    step.pop('backend', None)
    known = ('brightness', 'contrast', 'saturation', 'hue')
    if not all(
        key in known and isinstance(value, _NUMBER)
        for key, value in step.items()
    ):
        return None
    return dict(type='hkd_mm.ColorJitter', **step)


def _rotate(step: dict) -> dict | None:
    low, high = step.pop('magnitude_range', (None, None)) or (None, None)
    level = step.pop('magnitude_level', 10) / step.pop('total_level', 10)
    prob, fill = step.pop('prob', 0.5), step.pop('pad_val', 128)
    fixed = dict(
        magnitude_std='inf',
        random_negative_prob=0.5,
        interpolation='bilinear',
    )
    given = dict(
        dict(magnitude_std=0, random_negative_prob=0.5, interpolation=None),
        **step,
    )
    if isinstance(fill, (list, tuple)) and len(set(fill)) == 1:
        fill = fill[0]  # stock: a bare number would fill blue alone
    if low != 0 or given != fixed or not isinstance(fill, _NUMBER):
        return None
    return dict(
        type='hkd_mm.Rotate', degrees=high * level, prob=prob, fill=fill
    )


_TURNS: dict[str, Callable[[dict], dict | None]] = dict(
    RandomFlip=_flip, ColorJitter=_jitter, Rotate=_rotate
)


def stock(augment: list[dict]) -> list[dict]:
    """Steps of mmpretrain that do what a ``PackedPreprocessor`` does.

    Args:
        augment: its augmentations, ``dict(type='hkd_mm.X', ...)`` each.

    Returns:
        Steps between resizing and packing, in the same order.

    Raises:
        UserError: an operation has no counterpart.
    """
    return [_stock(dict(step)) for step in augment]


def _stock(step: dict) -> dict:
    name = step.pop('type').rsplit('.', 1)[-1]
    if name in ('HorizontalFlip', 'VerticalFlip'):
        direction = name.removesuffix('Flip').lower()
        return dict(
            type='RandomFlip', prob=step.get('prob', 0.5), direction=direction
        )
    if name == 'ColorJitter' and step.pop('prob', 1.0) == 1:
        return dict(type='ColorJitter', **step)
    if name == 'Rotate' and not set(step) - {'degrees', 'prob', 'fill'}:
        # 'inf' draws the angle uniformly; a bare fill colours blue alone
        return dict(
            type='Rotate',
            magnitude_level=10,
            magnitude_range=(0, step.get('degrees', 10)),
            magnitude_std='inf',
            prob=step.get('prob', 1.0),
            random_negative_prob=0.5,
            pad_val=(step.get('fill', 128),) * 3,
            interpolation='bilinear',
        )
    raise UserError(
        f'packed=False: {name} of data_preprocessor.augment has no '
        "counterpart in mmpretrain's pipeline; leave packed=False out, or "
        'name another augmentation'
    )
