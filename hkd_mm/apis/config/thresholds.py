# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From which probability on pixels count, in the evaluators of a config."""

import inspect
from typing import Any

from mmengine.config import Config
from mmengine.registry import METRICS

from hkd_mm.errors import UserError


def pixel_threshold(evaluators: Any) -> float | None:
    """The threshold of the first metric that has one.

    Args:
        evaluators: ``val_evaluator`` or ``test_evaluator`` of a config.

    Returns:
        Its value, else its default; None where no metric has a threshold.
    """
    nodes = evaluators or []
    for node in [nodes] if isinstance(nodes, dict) else nodes:
        metric = METRICS.get(node['type'])
        known = inspect.signature(metric).parameters if metric else {}
        if 'threshold' in known:
            return float(node.get('threshold', known['threshold'].default))
    return None


def check_thresholds(cfg: Config) -> None:
    """Validation, which a threshold is chosen on, and test have the same.

    Raises:
        UserError: they have not.
    """
    chosen, tested = (
        pixel_threshold(cfg.get(name))
        for name in ('val_evaluator', 'test_evaluator')
    )
    if None not in (chosen, tested) and chosen != tested:
        raise UserError(
            f'pixels count from {chosen:g} on in val_evaluator and from '
            f'{tested:g} on in test_evaluator; a threshold is chosen on '
            'validation and holds for the test: set '
            'val_evaluator.0.threshold and test_evaluator.0.threshold alike'
        )
