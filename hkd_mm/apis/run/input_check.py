# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A net is tested on images as it was trained on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hkd_mm.errors import UserError

_DECISIVE = ('window', 'mean', 'std')


def check_input(
    meta: dict, preprocessor: nn.Module, path: str, warn: Callable[[str], None]
) -> None:
    """Refuse another window or normalisation than that of the training.

    Args:
        meta: of the checkpoint; one that is not of ours names none.
        preprocessor: of the test.
        path: of the checkpoint, for the message.
        warn: takes a line on another size of the images.

    Raises:
        UserError: window, mean or std are others.
    """
    of_student = (meta.get('student') or {}).get('data_preprocessor')
    there = of_student or meta.get('data_preprocessor') or {}
    for name in _DECISIVE:
        trained, tested = there.get(name), getattr(preprocessor, name, None)
        known = name in there and hasattr(preprocessor, name)
        if known and not _same(trained, tested):
            raise UserError(
                f'checkpoint {path} was trained with data_preprocessor.'
                f'{name}={_told(trained)} and this test has {_told(tested)}; '
                f'add --cfg-options data_preprocessor.{name}={_told(trained)}'
            )
    trained = there.get('input_size')
    tested = getattr(preprocessor, 'input_size', None)
    if None not in (trained, tested) and not _same(trained, tested):
        warn(
            f'checkpoint {path} was trained on images of {_told(trained)} '
            f'pixels and is tested on those of {_told(tested)}'
        )


def _values(value: Any) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.float32).detach().cpu().flatten()


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    one, other = _values(one), _values(other)
    if len({len(one), len(other)} - {1}) > 1:
        return False
    return bool(torch.isclose(one, other).all())


def _told(value: Any) -> str:
    if value is None or isinstance(value, (int, float)):
        return f'{value}'
    return f'[{",".join(f"{x:g}" for x in _values(value).tolist())}]'
