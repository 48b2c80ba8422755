# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Thresholds of masks: the same on validation and on test."""

from pathlib import Path

import pytest

from hkd_mm.apis.config.compose import compose_config
from hkd_mm.apis.config.thresholds import pixel_threshold
from hkd_mm.apis.config.value_checks import check_values
from hkd_mm.errors import UserError

ROOT = Path(__file__).parents[3]
UNET = str(ROOT / 'configs/segmentation/unet-r18_lidc.py')
CHOSEN, TESTED = 'val_evaluator.0.threshold=0.3', 'test_evaluator.0.threshold='


def composed(*options: str):
    return compose_config(UNET, list(options))


def test_thresholds_that_differ_are_refused() -> None:
    for options in ([CHOSEN], [CHOSEN, TESTED + '0.4'], [TESTED + '0.3']):
        with pytest.raises(UserError, match='is chosen on validation'):
            check_values(composed(*options), 'cpu', ('test_dataloader',))
    for options in ([], [CHOSEN, TESTED + '0.3']):
        check_values(composed(*options), 'cpu', ('test_dataloader',))


def test_the_first_metric_that_has_one_counts() -> None:
    assert pixel_threshold(composed(CHOSEN).val_evaluator) == 0.3
    assert pixel_threshold(composed().val_evaluator) == 0.5
    clinical = dict(type='hkd_mm.ClinicalMetric')
    masks = dict(type='hkd_mm.SegmentationMetric', threshold=0.2)
    assert pixel_threshold([clinical, masks]) == 0.2
    assert pixel_threshold(masks) == 0.2
    assert pixel_threshold(clinical) is pixel_threshold(None) is None
