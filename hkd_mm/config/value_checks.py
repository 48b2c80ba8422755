# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Values of a whole config that would fail late, with a traceback."""

import types
import typing
from typing import Any

from mmengine.config import Config
from mmengine.registry import METRICS

from hkd_mm.config import schema
from hkd_mm.config.tree import LOADERS, dicts, preprocessor
from hkd_mm.errors import UserError
from hkd_mm.io.schema import plain, validate
from hkd_mm.io.signatures import type_name
from hkd_mm.metric_names import OVERALL

_NUMBERS = dict.fromkeys((int, schema.Finite), schema.Finite | list)
_NUMBERS |= {one | None: kind | None for one, kind in _NUMBERS.items()}
_EVALUATORS = ('val_evaluator', 'test_evaluator')


def pixel_threshold(evaluators: Any) -> float | None:
    """The threshold of the first metric that has one, else None."""
    for node in dicts(evaluators):
        metric = node.get('type')
        metric = METRICS.get(metric) if isinstance(metric, str) else metric
        known = schema.arguments(metric)[0] if metric else {}
        if 'threshold' in known:
            value = node.get('threshold', known['threshold'][1])
            if type(value) not in (int, float):
                raise UserError(
                    f'threshold={value!r} of {node["type"]} must be a number '
                    'between 0 and 1; set --cfg-options mask_threshold=0.5'
                )
            return float(value)
    return None


def check_values(cfg: Config, device: str, loaders: tuple[str, ...] = LOADERS) -> None:
    """Look at the values that torch and mmengine refuse without a name."""
    trains = 'train_dataloader' in loaders
    needed = ('train_dataloader', 'train_cfg', 'optim_wrapper') if trains else loaders
    for name in ('model', *needed):
        if not cfg.get(name):
            raise UserError(f'config {cfg.filename} has no {name}; write one into it')
    chosen, tested = (pixel_threshold(cfg.get(name)) for name in _EVALUATORS)
    if None not in (chosen, tested) and chosen != tested:
        raise UserError(
            f'pixels count from {chosen:g} on in val_evaluator and from {tested:g} on '
            'in test_evaluator; a threshold is chosen on validation and holds for the '
            'test: set mask_threshold, which both take'
        )
    for name in loaders:
        loader = cfg.get(name) or {}
        for key in ('persistent_workers', 'prefetch_factor'):
            if loader.get(key) and not loader.get('num_workers'):
                raise UserError(
                    f'{name}.{key}={loader[key]} needs {name}.num_workers >= 1'
                )
    left_out = {'optim_wrapper', *(set(LOADERS) - set(loaders))}
    found = plain(cfg._cfg_dict, 'replace')
    found = {key: found[key] for key in found if key in schema.RUN_KEYS - left_out}
    scope = cfg.get('default_scope') or 'mmpretrain'
    for place, node in schema.nodes(found):
        kind = schema.class_of_type(node['type'], scope) if 'type' in node else None
        if kind is not None:
            kind = schema.group_of(**{place: schema.group_of(**_simple_kinds(kind))})
            validate(kind, {place: node}, f'config {cfg.filename}')
    if trains:
        if not {'max_epochs', 'max_iters'} & set(cfg.train_cfg):
            raise UserError(f'config {cfg.filename}: train_cfg has no max_epochs')
        _check_optimizer(cfg.optim_wrapper, device, cfg.get('default_scope'))
        _check_save_best(cfg)
        check_model_groups(cfg)


def _simple_kinds(kind: Any) -> dict[str, Any]:
    found = schema.arguments(kind)[0]
    found.pop('class_weight', None)  # may be a word until the data is read
    found = {name: _simple(*hint) for name, hint in found.items()}
    if kind.__module__.startswith(('hkd_mm.', 'mmengine.')):
        return found
    # networks and transforms say int of what may be a fraction, or one for each side
    return {name: _NUMBERS.get(one, one) for name, one in found.items()}


def _simple(hint: Any, default: Any) -> Any:
    """What a value of an annotation has to be; Any where that is not simple."""
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    parts = set(typing.get_args(hint)) if union else {hint}
    empty = {type(None)} & parts or default is None
    (found, *others) = parts - {type(None)} or {Any}
    if others or found not in (bool, int, float, str):
        return Any
    found = schema.Finite if found is float else found
    return found | None if empty else found


def check_model_groups(cfg: Config) -> None:
    """Try ``model.teacher_cache`` and ``model.teacher_inference``."""
    model = cfg.model
    taught = model.get('teacher') or model.get('teachers')
    for name, kind in schema.teacher_groups().items():
        group = model.get(name)
        if group is None:
            continue
        if not (taught and schema.takes(model, name)):
            raise UserError(
                f'model.{name} is for one frozen teacher; '
                f'{model.get("type")} has none, leave it out'
            )
        kinds = _simple_kinds(kind)
        closed = schema.group_of(True, **kinds)
        known = f'; its settings: {", ".join(kinds)}'
        kind(**validate(closed, plain(group), f'model.{name}', known))
    views = preprocessor(cfg).get('num_views')
    cached = (model.get('teacher_cache') or {}).get('num_views')
    if None not in (views, cached) and views != cached:
        raise UserError(
            f'packed.num_views={views} and model.teacher_cache.num_views='
            f'{cached} must be one number; set both, or teacher_cache=False'
        )


def check_weights(cfg: Config, classes: tuple[str, ...]) -> None:
    """Hold lists of class weights against the classes of the data."""
    for node in [cfg._cfg_dict, *dicts(cfg.get('model'))]:
        weight = node.get('class_weight')
        if isinstance(weight, (list, tuple)) and len(weight) != len(classes):
            raise UserError(
                f'class_weight={list(weight)} has {len(weight)} numbers and '
                f'the data {len(classes)} classes ({", ".join(classes)}); '
                'give one a class, or balanced'
            )


def _check_optimizer(wrapper: dict[str, Any], device: str, scope: str | None) -> None:
    """Build the optimizer for one number, before any network is built."""
    import torch
    from mmengine.registry import OPTIMIZERS

    if type_name(wrapper) == 'AmpOptimWrapper' and device == 'cpu':
        raise UserError(
            'optim_wrapper.type=AmpOptimWrapper is mixed precision, which '
            'needs a GPU; use OptimWrapper on a CPU'
        )
    # several, each in a group of its name, have a constructor
    found = [part['optimizer'] for part in dicts(wrapper) if part.get('optimizer')]
    if not found or not wrapper.keys() & {'optimizer', 'constructor'}:
        raise UserError('optim_wrapper has no optimizer; write one into the config')
    number = torch.nn.Parameter(torch.zeros(1))
    try:
        with OPTIMIZERS.switch_scope_and_registry(scope) as registry:
            for settings in found:
                registry.build(dict(settings, params=[number]))
    except (KeyError, ValueError, TypeError) as error:
        reason = str(error).strip('"\'').splitlines()[0]
        raise UserError(
            f'optim_wrapper.optimizer, type={settings["type"]}: {reason}; '
            'give a name and values that torch.optim takes'
        ) from error


def _check_save_best(cfg: Config) -> None:
    """Ask the metric for what it calls its numbers."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    wanted, evaluators = hook.get('save_best'), cfg.get('val_evaluator')
    if not isinstance(evaluators, (list, tuple)):
        evaluators = [evaluators or {}]
    kinds = [node.get('type') for node in evaluators]
    if wanted in (None, 'auto') or kinds != ['hkd_mm.ClinicalMetric']:
        return  # others know their names by themselves
    if evaluators[0].get('prefix'):
        return
    for name in [wanted] if isinstance(wanted, str) else wanted:
        if '/' not in name and name not in OVERALL:
            raise UserError(
                f'default_hooks.checkpoint.save_best={name} is no metric of '
                f'ClinicalMetric; take one of {", ".join(OVERALL)} or '
                '<class>/sensitivity'
            )
