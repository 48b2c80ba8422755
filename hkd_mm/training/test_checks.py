# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Checks that a test reads the split and the input of the training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from hkd_mm.engine.run_data import split_hash
from hkd_mm.errors import UserError


def check_split(
    meta: dict, dataset, checkpoint: str, warn: Callable[[str], None]
) -> None:
    """Refuse test images that the network may have been trained on.

    Asking for all images of the data is left to the user; ``meta`` is the checkpoint's.
    """
    there, here = meta.get('split_hash'), split_hash(dataset)
    if here is None or there == here:
        return
    if there is None:
        warn(
            f'{checkpoint} does not say which split it was trained on: '
            'whether it knows the test images cannot be checked'
        )
        return
    message = (
        f'checkpoint {checkpoint} was trained on another split ({there[:8]}) than the '
        f'one in use ({here[:8]}), so it may know the test images'
    )
    if getattr(dataset, 'split', None) != 'all':
        raise UserError(
            f'{message}; repeat the --cfg-options of the training, or give the '
            'folder of the run in place of a config; for data that had no part '
            'in the training set test_dataloader.dataset.split=all'
        )
    warn(message)


_NOTHING = dict(window=None, mean=[0.0], std=[1.0])
Difference = tuple[str, str, str, str]  # name, trained, tested, an option


def check_input(
    meta: dict,
    preprocessor: nn.Module,
    tested: dict[str, Any] | None,
    path: str,
    warn: Callable[[str], None],
    other_input: bool = False,
) -> bool:
    """Refuse images that are prepared otherwise than those of the training.

    ``tested`` are size and resize rule of the test, None where they are not known; True
    where they differ and ``other_input`` asks for that.
    """
    found = [*_resized(meta, tested), *_normalised(meta, preprocessor)]
    if tested is None:
        warn(
            'size and resize rule of the test images cannot be told from their '
            f'data set: whether they are those of {path} cannot be checked'
        )
    elif not meta.get('input'):
        warn(
            f'{path} does not record size and resize rule of its images: '
            'whether this test prepares them likewise cannot be checked'
        )
    if not found:
        return False
    differences = ' and '.join(
        f'{name} {trained} (this test: {here})' for name, trained, here, _ in found
    )
    message = f'checkpoint {path} was trained with {differences}'
    if other_input:
        warn(f'{message}: tested with another input on purpose')
        return True
    options = ' '.join(option for *_, option in found if option)
    way = f'add --cfg-options {options}, or ' if options else ''
    raise UserError(
        f'{message}; {way}repeat the --cfg-options of the training, or give the folder '
        'of the run in place of a config; --other-input tests it all the same'
    )


def _resized(meta: dict, tested: dict | None) -> list[Difference]:
    trained = meta.get('input')
    if not isinstance(trained, dict) or tested is None:
        return []
    found = []
    size = trained.get('size')
    if size != tested['size']:
        square = size is not None and size[0] == size[1]
        option = f'input_size={size[0]}' if square else ''
        sides = (
            'any size' if s is None else '{} x {} pixels'.format(*s)
            for s in (size, tested['size'])
        )
        found.append(('images of', *sides, option))
    for name, key in (('resize by', 'interpolation'), ('steps', 'steps')):
        if trained.get(key) != tested[key]:
            found.append((name, _words(trained.get(key)), _words(tested[key]), ''))
    return found


def _normalised(meta: dict, preprocessor: nn.Module) -> list[Difference]:
    student = meta.get('student')  # of a training that was ours
    there = isinstance(student, dict) and student.get('data_preprocessor')
    there = there or meta.get('data_preprocessor')
    if not there or not isinstance(there, dict):
        return []
    found = []
    for name in ('to_rgb', *_NOTHING):
        trained, tested = there.get(name), getattr(preprocessor, name, None)
        if name == 'to_rgb':  # unsaid: the defaults of preprocessors differ
            same = None in (trained, tested) or bool(trained) == bool(tested)
        else:
            pair = (_NOTHING[name] if v is None else v for v in (trained, tested))
            same = _same(*pair)
        if not same:
            key, was = f'data_preprocessor.{name}', _value(trained)
            found.append((key, was, _value(tested), f'{key}={was}'))
    return found


def _values(value: Any) -> list[float]:
    return torch.as_tensor(value, dtype=torch.float32).flatten().tolist()


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    one, other = _values(one), _values(other)
    fits = len({len(one), len(other)} - {1}) < 2  # one number is that of all channels
    return fits and np.allclose(one, other)


def _value(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float)):
        return f'{value}'
    return f'[{",".join(f"{x:g}" for x in _values(value))}]'


def _words(value: Any) -> str:
    return (', '.join(value) or 'none') if isinstance(value, list) else str(value)
