# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A net is tested on images that are normalised as in its training."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hkd_mm.errors import UserError

_NOTHING = dict(window=None, mean=[0.0], std=[1.0])


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
        UserError: window, mean, std or the order of the channels are others.
    """
    there = _remembered(meta)
    if not there:
        return
    for name, nothing in _NOTHING.items():
        trained = there.get(name)
        tested = getattr(preprocessor, name, None)
        if not _same(
            nothing if trained is None else trained,
            nothing if tested is None else tested,
        ):
            _refuse(path, name, trained, tested)
    # where it is not said, kinds of preprocessors have defaults that differ
    trained, tested = (
        there.get('to_rgb'),
        getattr(preprocessor, 'to_rgb', None),
    )
    if None not in (trained, tested) and bool(trained) != bool(tested):
        _refuse(path, 'to_rgb', trained, tested)
    trained = there.get('input_size')
    tested = getattr(preprocessor, 'input_size', None)
    if None not in (trained, tested) and not _same(trained, tested):
        warn(
            f'checkpoint {path} was trained on images of {_told(trained)} '
            f'pixels and is tested on those of {_told(tested)}'
        )


def _refuse(path: str, name: str, trained: Any, tested: Any) -> None:
    raise UserError(
        f'checkpoint {path} was trained with data_preprocessor.{name}='
        f'{_told(trained)} and this test has {_told(tested)}; add '
        f'--cfg-options data_preprocessor.{name}={_told(trained)}'
    )


def _remembered(meta: dict) -> dict:
    """The data preprocessor of the training; empty where nothing is said."""
    student = meta.get('student')
    of_student = isinstance(student, dict) and student.get('data_preprocessor')
    found = of_student or meta.get('data_preprocessor')
    return found if isinstance(found, dict) else {}


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
    if value is None or isinstance(value, (bool, int, float)):
        return f'{value}'
    return f'[{",".join(f"{x:g}" for x in _values(value).tolist())}]'
