# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Settings of a distillation that only its constructor would look at.

By then a teacher may have been trained for hours.
"""

import difflib
import inspect
from typing import Any

from mmengine.config import Config

from hkd_mm.errors import UserError
from hkd_mm.registry import MODELS

from .tree import preprocessor


def check_model_groups(cfg: Config) -> None:
    """Try ``model.teacher_cache`` and ``model.teacher_inference``.

    Raises:
        UserError: one is no group, or has an unknown name or a value of the
            wrong kind or range.
    """
    from hkd_mm.models.algorithms.teacher_inference import TeacherInference
    from hkd_mm.models.teacher_cache import TeacherCache

    for name, kind in (
        ('teacher_cache', TeacherCache),
        ('teacher_inference', TeacherInference),
    ):
        model = cfg.get('model') or {}
        group = model.get(name)
        taught = model.get('teacher') or model.get('teachers')
        if group is not None and not (taught and takes(model, name)):
            raise UserError(
                f'model.{name} is for one frozen teacher; '
                f'{model.get("type")} has none, leave it out'
            )
        if group is not None:
            _check_group(f'model.{name}', group, kind)
    views = preprocessor(cfg).get('num_views')
    cached = (cfg.get('model') or {}).get('teacher_cache') or {}
    if None not in (views, cached.get('num_views')):
        if views != cached['num_views']:
            raise UserError(
                f'packed.num_views={views} and model.teacher_cache.num_views='
                f'{cached["num_views"]} must be one number; set both, or '
                'teacher_cache=False'
            )


def takes(model: dict, name: str) -> bool:
    """Whether a model has an argument of that name, or may have it.

    Args:
        model: its config, whose type may be unknown here.
        name: such as ``teacher_cache``.
    """
    kind = MODELS.get(model.get('type', ''))
    return kind is None or any(
        name in inspect.signature(base.__init__).parameters
        for base in kind.__mro__
        if '__init__' in vars(base)
    )


def _check_group(name: str, group: Any, kind: type) -> None:
    known = dict(inspect.signature(kind.__init__).parameters)
    del known['self']
    if not isinstance(group, dict):
        raise UserError(
            f'{name}={group!r} is a group of settings; set one of them, such '
            f'as {", ".join(f"{name}.{key}" for key in list(known)[:3])}'
        )
    for key, value in group.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1, 0.5)
            hint = (
                f'did you mean {name}.{close[0]}?'
                if close
                else (f'known there: {", ".join(known)}')
            )
            raise UserError(f'{name} has no "{key}"; {hint}')
        default = known[key].default
        wanted = type(default)
        if value is None or default is None:
            continue
        fits = isinstance(value, wanted) or (
            wanted is float and isinstance(value, int)
        )
        if not fits or (isinstance(value, bool) and wanted is not bool):
            said = {
                bool: 'True or False',
                int: 'a whole number',
                float: 'a number',
                str: 'a text',
            }[wanted]
            raise UserError(f'{name}.{key}={value!r} must be {said}')
    kind(**group)  # its own checks
