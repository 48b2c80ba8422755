# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From which probability on pixels count, in the evaluators of a config."""

import inspect
from typing import Any

from mmengine.config import Config
from mmengine.registry import METRICS

from hkd_mm.errors import UserError

from .tree import dicts

_EVALUATORS = ('val_evaluator', 'test_evaluator')
_DEFAULT = 0.5


def pixel_threshold(evaluators: Any) -> float | None:
    """The threshold of the first metric that has one.

    Args:
        evaluators: ``val_evaluator`` or ``test_evaluator`` of a config.

    Returns:
        Its value, else its default; None where no metric has a threshold.

    Raises:
        UserError: it is no number.
    """
    for node in dicts(evaluators):
        metric = node.get('type')
        metric = METRICS.get(metric) if isinstance(metric, str) else metric
        known = inspect.signature(metric).parameters if metric else {}
        if 'threshold' in known:
            value = node.get('threshold', known['threshold'].default)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise UserError(
                    f'threshold={value!r} of {node["type"]} must be a number '
                    'between 0 and 1; set --cfg-options mask_threshold=0.5'
                )
            return float(value)
    return None


def check_mask_threshold(cfg: Config, value: Any) -> None:
    """Refuse a ``mask_threshold`` that is no probability, or of no use.

    Raises:
        UserError: it is none, or the config has more classes than one and
            the background.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value < 1:
        raise UserError(
            f'mask_threshold={value!r} must be a number between 0 and 1'
        )
    classes = cfg.get('classes')
    several = isinstance(classes, (list, tuple)) and len(classes) > 2
    if several and value != _DEFAULT:
        raise UserError(
            f'mask_threshold={value!r} is for one class against the '
            f'background; of {len(classes)} classes the most probable '
            'one counts: leave it out'
        )


def check_thresholds(cfg: Config) -> None:
    """Validation, which a threshold is chosen on, and test have the same.

    Raises:
        UserError: they have not.
    """
    chosen, tested = (pixel_threshold(cfg.get(name)) for name in _EVALUATORS)
    if None not in (chosen, tested) and chosen != tested:
        raise UserError(
            f'pixels count from {chosen:g} on in val_evaluator and from '
            f'{tested:g} on in test_evaluator; a threshold is chosen on '
            'validation and holds for the test: set mask_threshold, which '
            'both take'
        )
