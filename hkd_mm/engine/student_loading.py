# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From a ``student.pth`` back to its net."""

import os

from torch import nn

from hkd_mm.errors import UserError

from .checkpoint import load_weights, safe_load
from .student_checks import checked_config, closed_registries


def load_student(path: str | os.PathLike) -> tuple[nn.Module, dict]:
    """The plain net of a run, with its trained weights.

    The file may come from anybody: of the net that it names nothing is built
    but what is registered here, see :mod:`.student_checks`.

    Args:
        path: a ``student.pth`` or a ``.safetensors``, which says of itself
            what net it is.

    Returns:
        The net, in evaluation, and the ``meta`` of the file.

    Raises:
        UserError: the file cannot be read safely, does not name its net, or
            names something that is no plain net.
    """
    from mmengine.registry import init_default_scope

    meta = safe_load(path).get('meta') or {}
    if not isinstance(meta, dict) or not meta.get('student'):
        raise UserError(
            f'{path} does not say which net it is; give the student.pth that '
            'a training leaves in its work dir'
        )
    init_default_scope('mmpretrain')
    config = checked_config(meta['student'], path)
    if meta.get('data_preprocessor'):
        config.setdefault(
            'data_preprocessor',
            checked_config(meta['data_preprocessor'], path),
        )
    net = _build(config, path)
    load_weights(net, path, 'student')
    return net.eval(), meta


def _build(config: dict, path: str | os.PathLike) -> nn.Module:
    from hkd_mm.registry import MODELS

    try:
        with closed_registries():
            return MODELS.build(config)
    except UserError:
        raise
    except Exception as error:  # of any net's constructor
        lines = str(error).splitlines() or [repr(error)]
        raise UserError(
            f'{path} names a net that cannot be built here '
            f'({type(error).__name__}: {lines[0]}); take the versions of '
            'MMPretrain and timm that it was trained with'
        ) from error
