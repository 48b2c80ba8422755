# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Names a config may hold, asked of the code that reads them.

By then a teacher may have been trained for hours.
"""

import difflib
import inspect
from typing import Any

from mmengine.config import Config

from hkd_mm.config.tree import LOADERS, preprocessor
from hkd_mm.errors import UserError
from hkd_mm.registry import MODELS

_OF_RUN = (
    'device work_dir sync_bn find_unused_parameters model_wrapper_cfg '
    'compile efficient_conv_bn_eval activation_checkpointing teacher_config '
    'student_config previous_stage_config'
).split()
# What MMEngine's Runner and these tools read at the top of a config.
RUN_KEYS = frozenset(_OF_RUN) | set(
    (
        'model train_dataloader val_dataloader test_dataloader train_cfg '
        'val_cfg test_cfg auto_scale_lr optim_wrapper param_scheduler '
        'val_evaluator test_evaluator default_hooks custom_hooks '
        'data_preprocessor load_from resume launcher env_cfg log_processor '
        'log_level visualizer default_scope randomness experiment_name'
    ).split()
)
# Groups whose reader in mmengine has no signature to ask.
_GROUPS = {
    'randomness': {'seed', 'diff_rank_seed', 'deterministic'},
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'dist_cfg': {'backend', 'timeout'},
    'hair_removal': {'kernel', 'threshold', 'length', 'radius'},
    'clip_grad': {'max_norm', 'norm_type', 'type'},
    'default_hooks': set(
        'runtime_info timer sampler_seed logger param_scheduler checkpoint '
        'visualization'.split()
    ),
}


# type of a default -> types that a value may have, and their description
_KINDS = {
    bool: ((bool,), 'True or False'),
    int: ((int,), 'a whole number'),
    float: ((float, int), 'a number'),
    str: ((str,), 'a text'),
}


def _signature(function) -> tuple[set[str], bool]:
    parameters = inspect.signature(function).parameters.values()
    names = {
        p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return names - {'self'}, any(p.kind is p.VAR_KEYWORD for p in parameters)


def names_of_group(name: str) -> set[str]:
    """Names that mmengine reads from a group without a ``type``.

    Args:
        name: last part of the group's dotted name; empty for the top level.
    """
    from mmengine.optim import AmpOptimWrapper, OptimWrapper
    from mmengine.runner import EpochBasedTrainLoop, Runner, TestLoop
    from torch.utils.data import DataLoader

    from hkd_mm.models.algorithms.teacher_inference import TeacherInference
    from hkd_mm.models.teacher_cache import TeacherCache

    if name == '':
        return _signature(Runner.__init__)[0] - {'cfg'} | set(_OF_RUN)
    if name in LOADERS:
        return _signature(DataLoader.__init__)[0] | {'num_batch_per_epoch'}
    if name == 'train_cfg':
        return _loop(EpochBasedTrainLoop) | {'by_epoch'}
    if name in ('val_cfg', 'test_cfg'):
        return _loop(TestLoop)
    if name == 'optim_wrapper':
        return (
            _signature(AmpOptimWrapper.__init__)[0]
            | _signature(OptimWrapper.__init__)[0]
            | {'type', 'constructor', 'paramwise_cfg'}
        )
    if name == 'teacher_cache':
        return _signature(TeacherCache.__init__)[0]
    if name == 'teacher_inference':
        return _signature(TeacherInference.__init__)[0]
    return set(_GROUPS.get(name, ()))


def _loop(kind: type) -> set[str]:
    given = {'runner', 'dataloader', 'evaluator'}
    return _signature(kind.__init__)[0] - given | {'type'}


def class_of_type(name: str, default_scope: str):
    """The registered class or function behind a config's ``type``, or None."""
    from mmengine import registry as roots

    names = [name] if '.' in name else [f'{default_scope}.{name}', name]
    for root in vars(roots).values():
        if not isinstance(root, roots.Registry):
            continue
        for candidate in names:
            found = root.get(candidate)
            if found is not None:
                return found
    return None


def names_of_type(name: str, default_scope: str) -> tuple[set[str], bool]:
    """Constructor arguments of a registered type.

    Returns:
        The names, those of its bases included as far as ``**kwargs`` passes
        them on, and whether it may take others too.
    """
    found = class_of_type(name, default_scope)
    if found is None:  # the registry will say so itself
        return {'type'}, True
    if not inspect.isclass(found):
        names, open_ended = _signature(found)
        return names | {'type'}, open_ended
    names, open_ended = {'type'}, False
    for base in found.__mro__[:-1]:
        if '__init__' not in vars(base):
            continue
        more, open_ended = _signature(base.__init__)
        names |= more
        if not open_ended:
            break
    # **kwargs may go to a function instead of a base, as in timm's networks.
    return names, open_ended or _signature(found.__init__)[1]


def check_model_groups(cfg: Config) -> None:
    """Try ``model.teacher_cache`` and ``model.teacher_inference``."""
    from hkd_mm.models.algorithms.teacher_inference import TeacherInference
    from hkd_mm.models.teacher_cache import TeacherCache

    model = cfg.get('model') or {}
    taught = model.get('teacher') or model.get('teachers')
    for name, kind in (
        ('teacher_cache', TeacherCache),
        ('teacher_inference', TeacherInference),
    ):
        group = model.get(name)
        if group is None:
            continue
        if not (taught and takes(model, name)):
            raise UserError(
                f'model.{name} is for one frozen teacher; '
                f'{model.get("type")} has none, leave it out'
            )
        _check_group(f'model.{name}', group, kind)
    views = preprocessor(cfg).get('num_views')
    cached = (model.get('teacher_cache') or {}).get('num_views')
    if None not in (views, cached) and views != cached:
        raise UserError(
            f'packed.num_views={views} and model.teacher_cache.num_views='
            f'{cached} must be one number; set both, or teacher_cache=False'
        )


def takes(model: dict, name: str) -> bool:
    """Whether a model has an argument of that name, or may have it."""
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
            hint = f'known there: {", ".join(known)}'
            if close:
                hint = f'did you mean {name}.{close[0]}?'
            raise UserError(f'{name} has no "{key}"; {hint}')
        default = known[key].default
        if None in (value, default):
            continue
        kinds, description = _KINDS[type(default)]
        if type(value) not in kinds:
            raise UserError(f'{name}.{key}={value!r} must be {description}')
    kind(**group)  # its own checks
