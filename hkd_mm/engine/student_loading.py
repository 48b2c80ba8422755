# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From ``student.pth`` back to its network, of registered parts only.

The file may come from anybody, and MMEngine calls whatever a ``type`` names:
what is not in a registry is imported by its dotted name. Here a ``type`` is
one of the networks that are registered already, or it is refused.
"""

import importlib
import inspect
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mmengine.registry import Registry, init_default_scope
from mmengine.registry import registry as _upstream
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import load_weights, safe_load
from hkd_mm.io.signatures import type_name
from hkd_mm.registry import MODELS

# Registries that are imported to look a name up; others, of a user's own
# package, count where the user has imported them before.
_OURS = ('mmpretrain', 'hkd_mm', 'mmrazor')
_ROOT = 'mmengine'  # scope of what MMCV and torch register
# Of these packages, what networks are made of. The rest takes paths, fetches
# from elsewhere or is no part of a student. Other packages are the user's own.
_PARTS = dict(
    mmpretrain='backbones classifiers heads losses necks peft utils'.split(),
    hkd_mm=('losses', 'networks', 'preprocessors'),
    mmrazor=('architectures', 'losses'),
)
_FETCHES = re.compile('HuggingFace')  # classes that do when they are built
# Start weights and what only training asks for: the file has the weights.
_LEFT_OUT = ('init_cfg', 'checkpoint_path', 'train_cfg', 'batch_augments')
_NAMED_NETS = ('model_name', 'encoder_name')  # of timm: hf-hub:OWNER/NAME
_DEEPEST = 50  # dicts and lists within each other; ours have six

_closed: ContextVar[bool] = ContextVar('closed', default=False)


def checked_config(config: Any, where: object) -> dict:
    """The config of a network, if it names nothing but registered networks.

    Returns:
        A copy without start weights and without what only training uses.

    Raises:
        UserError: it names something else, or a network that fetches from elsewhere.
    """
    if not isinstance(config, dict):
        raise _refusal(where, f'a config of type {type(config).__name__}')
    return _checked(config, where, 'mmpretrain', _DEEPEST)


def _checked(value: Any, where: object, scope: str, left: int) -> Any:
    if not left:
        raise _refusal(where, 'a config that is nested too deeply')
    if isinstance(value, (list, tuple)):
        return type(value)(_checked(v, where, scope, left - 1) for v in value)
    if not isinstance(value, dict):
        return value
    scope = value.get('_scope_') or scope
    if 'type' in value:
        _check_type(value['type'], where, scope)
    for key in _NAMED_NETS:
        if ':' in str(value.get(key, '')):
            raise _refusal(where, f'{key}={value[key]!r}, from elsewhere')
    found = {
        key: _checked(item, where, scope, left - 1)
        for key, item in value.items()
        if key not in _LEFT_OUT
    }
    if found.get('pretrained'):
        found['pretrained'] = False
    return found


def _check_type(name: Any, where: object, scope: str) -> None:
    """Refuse what is no registered part of a network."""
    if not isinstance(name, str):
        raise _refusal(where, f'type={name!r}')
    own, dot, word = name.rpartition('.')
    registry, found = _registry(own if dot else scope), None
    while registry is not None and found is None:  # as MMEngine does
        found, registry = registry.module_dict.get(word), registry.parent
    if found is None:
        raise _refusal(
            where,
            f'type={name!r}, no network that is registered here (import the '
            'package it belongs to, if it is yours)',
        )
    # a function or a stand-in for a missing package is no network
    is_network = inspect.isclass(found) and issubclass(found, nn.Module)
    package, *below = found.__module__.split('.')
    parts = _PARTS.get(package)
    if (
        not is_network
        or (parts and (below[:1] != ['models'] or below[1] not in parts))
        or _FETCHES.match(found.__name__)
    ):
        raise _refusal(where, f'type={name!r}, which is no plain part of a network')


def _registry(scope: Any) -> Registry | None:
    """The networks of a scope, which is not imported unless it is known."""
    if scope == _ROOT:
        return MODELS.parent
    if scope in _OURS:
        found = importlib.import_module(f'{scope}.registry').MODELS
        found.import_from_location()
        return found
    return MODELS.parent.children.get(scope) if isinstance(scope, str) else None


def _refusal(where: object, what: str) -> UserError:
    return UserError(
        f'{where} asks for {what}, and was not loaded: a file of weights may '
        'name networks of MMPretrain, timm and hkd_mm only'
    )


@contextmanager
def closed_registries() -> Iterator[None]:
    """Let no registry import what it does not have, in this thread.

    A second line behind :func:`checked_config`: words other than ``type`` may
    reach a registry as well.
    """
    imported = _upstream.get_object_from_string
    if not hasattr(imported, 'closed'):  # a switch, once

        def get_object_from_string(name: str) -> Any:
            if _closed.get():
                raise UserError(f'{name} is no registered network')
            return imported(name)

        get_object_from_string.closed = True
        _upstream.get_object_from_string = get_object_from_string
    token = _closed.set(True)
    try:
        yield
    finally:
        _closed.reset(token)


def load_student(path: str | os.PathLike) -> tuple[nn.Module, dict]:
    """The plain network of a ``student.pth``, or ``.safetensors`` of an export.

    The file may come from anybody, see :func:`checked_config`.

    Returns:
        The network, in evaluation, and the ``meta`` of the file.

    Raises:
        UserError: the file cannot be read safely, does not name its network,
            or names something that is no plain network.
    """
    meta = safe_load(path).get('meta') or {}
    if not isinstance(meta, dict) or not meta.get('student'):
        raise UserError(
            f'{path} does not say which network it is; give the student.pth '
            'that a training leaves in its work dir'
        )
    init_default_scope('mmpretrain')
    config = checked_config(meta['student'], path)
    if outer := meta.get('data_preprocessor'):
        config.setdefault('data_preprocessor', checked_config(outer, path))
    try:
        with closed_registries():
            network = MODELS.build(config)
    except UserError:
        raise
    except Exception as error:  # of any network's constructor
        lines = str(error).splitlines() or [repr(error)]
        raise UserError(
            f'{path} names a network that cannot be built here '
            f'({type(error).__name__}: {lines[0]}); take the versions of '
            'MMPretrain and timm that it was trained with'
        ) from error
    load_weights(network, path, 'student')
    return network.eval(), meta


def describe_network(network: dict[str, Any]) -> str:
    """A few words that tell a network from others."""
    if 'model_name' in network:
        return str(network['model_name'])
    if 'encoder_name' in network:
        return f'{network.get("arch", "Unet")} with {network["encoder_name"]}'
    backbone = network.get('backbone') or network
    keys = ('depth', 'widen_factor', 'arch', 'model_name', 'base_channels')
    details = [f'{key}={backbone[key]}' for key in keys if key in backbone]
    name = type_name(backbone) or 'network'
    return f'{name}({", ".join(details)})' if details else name


def statistics_of(meta: dict[str, Any]) -> dict[str, Any]:
    """Settings of the data preprocessor that weights were trained with."""
    own = meta['student'].get('data_preprocessor')
    return own or meta.get('data_preprocessor') or {}


def takes_bgr(network: Any, statistics: dict[str, Any]) -> bool:
    """Whether a network takes BGR, as MMPretrain's do by default."""
    return not statistics.get('to_rgb', getattr(network, 'dense', False))
