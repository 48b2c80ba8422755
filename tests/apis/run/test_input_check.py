# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Another window or normalisation than in training is refused."""

import pytest
from mmpretrain.models import ClsDataPreprocessor

from hkd_mm.apis.run.input_check import check_input
from hkd_mm.errors import UserError
from hkd_mm.models.preprocessors.packed_mask_preprocessor import (
    PackedMaskPreprocessor,
)

TRAINED = dict(window=(400, 1500), mean=[120.0], std=[60.0], input_size=64)


def said(meta=None, kind=PackedMaskPreprocessor, **changes):
    meta = dict(data_preprocessor=TRAINED) if meta is None else meta
    told = []
    check_input(meta, kind(**{**TRAINED, **changes}), 's.pth', told.append)
    return told


def test_the_same_passes():
    assert said() == []
    assert said(meta={}, mean=[0.0]) == []  # not of ours
    assert said(dict(student=dict(data_preprocessor=TRAINED))) == []


@pytest.mark.parametrize(
    ('change', 'way'),
    [
        (dict(window=(300, 1500)), r'window=\[400,1500\]'),
        (dict(window=None), r'window=\[400,1500\]'),
        (dict(mean=[0.0]), r'mean=\[120\]'),
        (dict(std=[1.0]), r'std=\[60\]'),
    ],
)
def test_others_are_refused_with_the_way_out(change, way):
    with pytest.raises(UserError, match=f'options data_preprocessor.{way}'):
        said(**change)


def test_what_the_student_remembers_comes_first():
    of_student = dict(TRAINED, mean=[7.0])
    meta = dict(
        data_preprocessor=TRAINED, student=dict(data_preprocessor=of_student)
    )
    assert said(meta, mean=[7.0]) == []
    with pytest.raises(
        UserError, match=r'mean=\[7\] and this test has \[120\]'
    ):
        said(meta)


def test_another_size_is_told():
    assert said(input_size=32) == [
        'checkpoint s.pth was trained on images of 64 pixels and is tested '
        'on those of 32'
    ]


STATISTICS = dict(mean=[1.0, 2, 3], std=[4.0, 5, 6], to_rgb=True)


def of_photographs(trained, tested):
    meta = dict(data_preprocessor=trained)
    check_input(meta, ClsDataPreprocessor(**tested), 's', pytest.fail)


def test_photographs_are_held_against_their_statistics():
    of_photographs(STATISTICS, STATISTICS)
    for other in (
        dict(STATISTICS, mean=[1.0, 2, 4]),
        dict(STATISTICS, to_rgb=False),
        {},
    ):
        with pytest.raises(UserError, match='was trained with data_prepr'):
            of_photographs(STATISTICS, other)
        with pytest.raises(UserError, match='was trained with data_prepr'):
            of_photographs(dict(other, num_classes=7), STATISTICS)


def test_none_is_no_normalisation():
    plain = dict(mean=[0.0, 0, 0], std=[1.0, 1, 1])
    of_photographs(dict(mean=None, std=None), plain)
    of_photographs(dict(num_classes=7), plain)
    of_photographs(dict(plain, to_rgb=False), {})


def test_what_is_not_of_ours_names_none():
    for meta in (dict(student='resnet18'), dict(data_preprocessor='x'), {}):
        check_input(meta, PackedMaskPreprocessor(mean=[7.0]), 's', pytest.fail)
