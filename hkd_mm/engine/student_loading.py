# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From a ``student.pth`` back to its net."""

import os

from torch import nn

from hkd_mm.errors import UserError

from .checkpoint import load_weights, safe_load


def load_student(path: str | os.PathLike) -> tuple[nn.Module, dict]:
    """The plain net of a run, with its trained weights.

    Args:
        path: a ``student.pth``, which says of itself what net it is.

    Returns:
        The net, in evaluation, and the ``meta`` of the file.

    Raises:
        UserError: the file cannot be read safely or does not name its net.
    """
    from mmengine.registry import init_default_scope

    from hkd_mm.registry import MODELS

    meta = safe_load(path).get('meta') or {}
    if not meta.get('student'):
        raise UserError(
            f'{path} does not say which net it is; give the student.pth that '
            'a training leaves in its work dir'
        )
    init_default_scope('mmpretrain')
    config = dict(meta['student'])
    if meta.get('data_preprocessor'):
        config.setdefault('data_preprocessor', meta['data_preprocessor'])
    net = MODELS.build(config)
    load_weights(net, path, 'student')
    return net.eval(), meta
