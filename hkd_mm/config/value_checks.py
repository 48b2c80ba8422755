# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Values of a whole config that would fail late, with a traceback."""

import inspect
from typing import Any

from mmengine.config import Config
from mmengine.registry import METRICS

from hkd_mm.config.options import check_seed
from hkd_mm.config.schema import check_model_groups
from hkd_mm.config.tree import LOADERS, dicts
from hkd_mm.errors import UserError
from hkd_mm.io.signatures import type_name

_EVALUATORS = ('val_evaluator', 'test_evaluator')


def pixel_threshold(evaluators: Any) -> float | None:
    """The threshold of the first metric that has one.

    Returns:
        Its value, else its default; None where no metric has a threshold.
    """
    for node in dicts(evaluators):
        metric = node.get('type')
        metric = METRICS.get(metric) if isinstance(metric, str) else metric
        known = inspect.signature(metric).parameters if metric else {}
        if 'threshold' in known:
            value = node.get('threshold', known['threshold'].default)
            if type(value) not in (int, float):
                raise UserError(
                    f'threshold={value!r} of {node["type"]} must be a number '
                    'between 0 and 1; set --cfg-options mask_threshold=0.5'
                )
            return float(value)
    return None


def check_thresholds(cfg: Config) -> None:
    """Validation, which a threshold is chosen on, and test have the same."""
    chosen, tested = (pixel_threshold(cfg.get(name)) for name in _EVALUATORS)
    if None not in (chosen, tested) and chosen != tested:
        raise UserError(
            f'pixels count from {chosen:g} on in val_evaluator and from '
            f'{tested:g} on in test_evaluator; a threshold is chosen on '
            'validation and holds for the test: set mask_threshold, which '
            'both take'
        )


def check_values(cfg: Config, device: str, loaders: tuple[str, ...] = LOADERS) -> None:
    """Look at the values that torch and mmengine refuse without a name.

    Args:
        device: cpu or cuda, settled.
    """
    check_seed('randomness.seed', (cfg.get('randomness') or {}).get('seed'))
    check_thresholds(cfg)
    for name in loaders:
        if cfg.get(name):
            _check_loader(name, cfg[name])
    if 'train_dataloader' in loaders:
        scope = cfg.get('default_scope', 'mmpretrain')
        _check_optimizer(cfg.get('optim_wrapper') or {}, device, scope)
        _check_save_best(cfg)
        check_model_groups(cfg)


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


def _check_loader(name: str, loader: dict[str, Any]) -> None:
    workers = loader.get('num_workers', 0)
    if type(workers) is not int or workers < 0:
        raise UserError(f'{name}.num_workers={workers!r} must be a whole number >= 0')
    if loader.get('persistent_workers') and workers == 0:
        raise UserError(f'{name}.persistent_workers=True needs {name}.num_workers >= 1')


def _check_optimizer(wrapper: dict[str, Any], device: str, scope: str) -> None:
    """Build the optimizer for one number, before any network is built."""
    import torch
    from mmengine.registry import OPTIMIZERS

    if type_name(wrapper) == 'AmpOptimWrapper' and device == 'cpu':
        raise UserError(
            'optim_wrapper.type=AmpOptimWrapper is mixed precision, which '
            'needs a GPU; use OptimWrapper on a CPU'
        )
    settings = wrapper.get('optimizer')
    if not isinstance(settings, dict) or 'type' not in settings:
        return
    number = torch.nn.Parameter(torch.zeros(1))
    try:
        with OPTIMIZERS.switch_scope_and_registry(scope) as registry:
            registry.build(dict(settings, params=[number]))
    except (KeyError, ValueError, TypeError) as error:
        reason = str(error).strip('"\'').splitlines()[0]
        raise UserError(
            f'optim_wrapper.optimizer, type={settings["type"]}: {reason}; '
            'give a name and values that torch.optim takes'
        ) from error


def _check_save_best(cfg: Config) -> None:
    """Ask the metric for what it calls its numbers."""
    wanted = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    wanted = wanted.get('save_best')
    evaluators = cfg.get('val_evaluator')
    if not evaluators or wanted in (None, 'auto'):
        return
    if not isinstance(evaluators, (list, tuple)):
        evaluators = [evaluators]
    kinds = [node.get('type') for node in evaluators]
    if kinds != ['hkd_mm.ClinicalMetric'] or evaluators[0].get('prefix'):
        return  # others know their names by themselves
    from hkd_mm.metric_names import OVERALL

    for name in [wanted] if isinstance(wanted, str) else wanted:
        if '/' not in name and name not in OVERALL:
            raise UserError(
                f'default_hooks.checkpoint.save_best={name} is no metric of '
                f'ClinicalMetric; take one of {", ".join(OVERALL)} or '
                '<class>/sensitivity'
            )
