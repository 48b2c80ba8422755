# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Thresholds of masks: the same on validation and on test."""

from pathlib import Path

import pytest

from hkd_mm.config.compose import compose_config
from hkd_mm.config.value_checks import check_values, pixel_threshold
from hkd_mm.errors import UserError
from hkd_mm.training.tester import check_stored_threshold, has_masks

ROOT = Path(__file__).parents[2]
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


def test_one_word_sets_the_threshold_of_both() -> None:
    cfg = composed('mask_threshold=0.3')
    for name in ('val_evaluator', 'test_evaluator'):
        assert pixel_threshold(cfg[name]) == 0.3
    check_values(cfg, 'cpu', ('test_dataloader',))
    with pytest.raises(UserError, match='mask_threshold=1.5: .*less than 1'):
        composed('mask_threshold=1.5')
    with pytest.raises(UserError, match='valid number'):
        composed('mask_threshold=high')


@pytest.mark.parametrize('name', ['wrn50_mbv2', 'wrn50_mbv2_ham10000'])
def test_a_classifier_takes_none(name) -> None:
    config = str(ROOT / f'configs/hybrid_{name}.py')
    with pytest.raises(UserError, match='mask_threshold=0.4 .*counts pixels of masks'):
        compose_config(config, ['mask_threshold=0.4'])


def test_of_several_classes_the_most_probable_counts(tmp_path) -> None:
    (tmp_path / 'two.txt').write_text('background\nnodule\n')
    composed(f'classes={tmp_path}/two.txt', 'mask_threshold=0.4')
    classes = "classes=['background','solid','part-solid']"
    composed(classes)
    with pytest.raises(UserError, match='of 3 classes the most probable'):
        composed(classes, 'mask_threshold=0.4')


@pytest.mark.parametrize('value', ['high', None, True])
def test_a_threshold_that_is_no_number_is_refused_in_one_line(value) -> None:
    metric = dict(type='hkd_mm.SegmentationMetric', threshold=value)
    with pytest.raises(UserError, match=f'threshold={value!r} of hkd_mm.Segm'):
        pixel_threshold([metric])


def test_a_test_at_another_threshold_than_the_run_is_told(tmp_path) -> None:
    said = []
    composed('mask_threshold=0.3').dump(tmp_path / 'unet-r18_lidc.py')
    checkpoint = str(tmp_path / 'student.pth')
    check_stored_threshold(composed('mask_threshold=0.3'), checkpoint, said.append)
    assert not said
    check_stored_threshold(composed(), checkpoint, said.append)
    assert len(said) == 1 and '0.5 on in this test and from 0.3' in said[0]
    assert '--cfg-options mask_threshold=0.3' in said[0]
    elsewhere = str(tmp_path / 'nowhere/student.pth')
    check_stored_threshold(composed(), elsewhere, said.append)
    assert len(said) == 1


def test_images_with_masks_are_told_from_others() -> None:
    assert has_masks(composed())
    photographs = compose_config(str(ROOT / 'configs/demo/mbv2_demo.py'))
    assert not has_masks(photographs)


def test_metrics_in_other_forms_are_passed_over() -> None:
    """MMEngine takes classes, and a group of metrics without a type."""
    from hkd_mm.evaluation.clinical_metric import ClinicalMetric

    masks = dict(type='hkd_mm.SegmentationMetric', threshold=0.2)
    assert pixel_threshold(dict(type=ClinicalMetric)) is None
    assert pixel_threshold(dict(metrics=[masks])) == 0.2
