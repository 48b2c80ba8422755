# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Which names a config may hold, asked of the code that reads them."""

import inspect

from .tree import LOADERS

_OF_RUN = (
    'device',
    'work_dir',
    'sync_bn',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'compile',
    'efficient_conv_bn_eval',
    'activation_checkpointing',
    'teacher_config',
    'student_config',
    'earlier_stage_config',
)
# What MMEngine's Runner and these tools read at the top of a config.
RUN_KEYS = frozenset(
    (
        *_OF_RUN,
        'model',
        'train_dataloader',
        'val_dataloader',
        'test_dataloader',
        'train_cfg',
        'val_cfg',
        'test_cfg',
        'auto_scale_lr',
        'optim_wrapper',
        'param_scheduler',
        'val_evaluator',
        'test_evaluator',
        'default_hooks',
        'custom_hooks',
        'data_preprocessor',
        'load_from',
        'resume',
        'launcher',
        'env_cfg',
        'log_processor',
        'log_level',
        'visualizer',
        'default_scope',
        'randomness',
        'experiment_name',
    )
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
    'default_hooks': {
        'runtime_info',
        'timer',
        'sampler_seed',
        'logger',
        'param_scheduler',
        'checkpoint',
        'visualization',
    },
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
    from mmengine.runner import EpochBasedTrainLoop, Runner, TestLoop

    if name == '':
        return _signature(Runner.__init__)[0] - {'cfg'} | set(_OF_RUN)
    if name in LOADERS:
        from torch.utils.data import DataLoader

        return _signature(DataLoader.__init__)[0] | {'num_batch_per_epoch'}
    if name == 'train_cfg':
        return _signature(EpochBasedTrainLoop.__init__)[0] - {
            'runner',
            'dataloader',
        } | {'by_epoch', 'type'}
    if name in ('val_cfg', 'test_cfg'):
        return _signature(TestLoop.__init__)[0] - {
            'runner',
            'dataloader',
            'evaluator',
        } | {'type'}
    if name == 'optim_wrapper':
        from mmengine.optim import AmpOptimWrapper, OptimWrapper

        return (
            _signature(AmpOptimWrapper.__init__)[0]
            | _signature(OptimWrapper.__init__)[0]
            | {'type', 'constructor', 'paramwise_cfg'}
        )
    if name == 'teacher_cache':
        from hkd_mm.models.teacher_cache import TeacherCache

        return _signature(TeacherCache.__init__)[0]
    if name == 'teacher_inference':
        from hkd_mm.models.algorithms.teacher_inference import TeacherInference

        return _signature(TeacherInference.__init__)[0]
    return set(_GROUPS.get(name, ()))


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
    # **kwargs may go to a function instead of a base, as in timm's nets.
    return names, open_ended or _signature(found.__init__)[1]
