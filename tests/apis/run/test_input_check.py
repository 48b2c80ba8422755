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


def test_photographs_are_held_against_their_statistics():
    statistics = dict(mean=[1.0, 2, 3], std=[4.0, 5, 6])
    meta = dict(data_preprocessor=statistics)
    check_input(meta, ClsDataPreprocessor(**statistics), 's', pytest.fail)
    other = ClsDataPreprocessor(mean=[1.0, 2, 4], std=[4.0, 5, 6])
    with pytest.raises(UserError, match=r'mean=\[1,2,3\] and this test has'):
        check_input(meta, other, 's', pytest.fail)
    check_input(meta, ClsDataPreprocessor(), 's', pytest.fail)  # has none
