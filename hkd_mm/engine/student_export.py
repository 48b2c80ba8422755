# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From a checkpoint of a run to a plain mmpretrain student file."""

import inspect
import io
import os
from collections.abc import Mapping
from typing import Any

import torch

from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.checkpoints import classes_of, safe_load, student_state_dict
from hkd_mm.io.signatures import type_name
from hkd_mm.models.preprocessors.packed_mask_preprocessor import PackedMaskPreprocessor
from hkd_mm.version import __version__

_STATISTICS = ('mean', 'std', 'to_rgb', 'num_classes')
_OF_MASKS = ('window', 'mean', 'std', 'to_rgb', 'input_size')
_META = 'epoch seed split_hash input student data_preprocessor'.split()


def plain(value: Any) -> Any:
    """A config as a safe checkpoint may hold it; what is no scalar becomes its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if hasattr(value, 'tolist'):
        return value.tolist()
    return str(value)


def student_config(model: Any, data_preprocessor: Any = None) -> dict:
    """Config of the plain student, which fetches no weights when built.

    Args:
        model: ``model`` of a config: a classifier, or an algorithm with the
            student as ``architecture``.
        data_preprocessor: of the top level of that config. Algorithms normalise with
            their own one, else with this; that of their student has no part in it.
    """
    config = plain(model)
    if 'architecture' in config:
        preprocessor = config.get('data_preprocessor') or data_preprocessor
        config = config['architecture']
        if preprocessor:
            config['data_preprocessor'] = plain(preprocessor)
    if config.get('data_preprocessor'):
        config['data_preprocessor'] = plain_preprocessor(config['data_preprocessor'])
    return _without_weights(config)


def plain_preprocessor(config: Any) -> dict:
    """What normalises single images as a run did, also a packed one.

    Returns:
        A plain dict; of a packed one its statistics, for mmpretrain's own;
        of one for masks what it does in evaluation.
    """
    config = plain(config)
    kind = type_name(config)
    if kind == 'PackedPreprocessor':
        config = {key: config[key] for key in _STATISTICS if key in config}
    elif kind == 'PackedMaskPreprocessor':
        known = inspect.signature(PackedMaskPreprocessor).parameters
        values = {n: plain(config.get(n, known[n].default)) for n in _OF_MASKS}
        config = dict(type=config['type'], **values)
    return config


def _without_weights(value: Any) -> Any:
    if isinstance(value, dict):
        value = {key: _without_weights(item) for key, item in value.items()}
        if value.get('pretrained'):
            value['pretrained'] = False
        init = value.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == 'Pretrained':
            del value['init_cfg']
    elif isinstance(value, (list, tuple)):
        value = type(value)(_without_weights(item) for item in value)
    return value


def export_student(
    checkpoint: str | os.PathLike, out: str | os.PathLike
) -> dict[str, Any]:
    """Write the plain student of a checkpoint to a ``.pth`` and read it back.

    The file holds ``state_dict`` as the plain classifier names it and ``meta``:
    ``classes``, ``epoch``, ``seed``, ``split_hash``, ``input`` (size and resize rule),
    ``student`` (its config), ``data_preprocessor``, ``source`` (name of the checkpoint)
    and ``hkd_mm``, as far as the checkpoint knows them.

    Raises:
        UserError: the checkpoint cannot be read safely, or is its own target.
    """
    if os.path.realpath(checkpoint) == os.path.realpath(out):
        raise UserError(
            f'{out} would overwrite the checkpoint it is made from; give another name'
        )
    loaded = safe_load(checkpoint)
    state = student_state_dict(loaded)
    source = loaded.get('meta') or {}
    meta = {key: source[key] for key in _META if key in source}
    classes = classes_of(source)
    meta.update(
        classes=list(classes) if classes is not None else None,
        source=os.path.basename(os.fspath(checkpoint)),
        hkd_mm=__version__,
    )
    with io.BytesIO() as buffer:
        torch.save(dict(state_dict=state, meta=plain(meta)), buffer)
        AtomicBackend().put(buffer.getvalue(), out)
    found = safe_load(out)['state_dict']
    same = found.keys() == state.keys() and all(
        torch.equal(_bits(found[key]), _bits(value)) for key, value in state.items()
    )
    if not same:
        raise UserError(
            f'{out} reads back differently from what was written; '
            'the disk or file system is faulty'
        )
    return meta


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes: -0.0 is not 0.0."""
    return tensor.reshape(-1).view(torch.uint8)
