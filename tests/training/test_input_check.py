# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Another size, resize rule or normalisation than in training is refused."""

import pytest
from mmpretrain.models import ClsDataPreprocessor

from hkd_mm.errors import UserError
from hkd_mm.models.preprocessors.packed_mask_preprocessor import (
    PackedMaskPreprocessor,
)
from hkd_mm.training.test_checks import check_input

TRAINED = dict(window=(400, 1500), mean=[120.0], std=[60.0])
SIZE = dict(size=[64, 64], interpolation='area', steps=[])


def check(meta, preprocessor, tested=SIZE, **more):
    """Check; return the warnings. ``SIZE`` is added to ``meta``."""
    told = []
    meta = dict(input=SIZE, **meta)
    check_input(meta, preprocessor, tested, 's.pth', told.append, **more)
    return told


def said(meta=None, **changes):
    meta = dict(data_preprocessor=TRAINED) if meta is None else meta
    return check(meta, PackedMaskPreprocessor(**{**TRAINED, **changes}))


def test_the_same_passes():
    assert said() == []
    assert said(meta={}, mean=[0.0]) == []  # names no normalisation
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
    meta = dict(data_preprocessor=TRAINED, student=dict(data_preprocessor=of_student))
    assert said(meta, mean=[7.0]) == []
    with pytest.raises(UserError, match=r'mean \[7\] \(this test: \[120\]\)'):
        said(meta)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (
            dict(size=[116, 116]),
            'images of 64 x 64 pixels (this test: 116 x 116 pixels); add '
            '--cfg-options input_size=64, or repeat',
        ),
        (
            dict(size=None, interpolation=None, steps=['CenterCrop(56)']),
            'images of 64 x 64 pixels (this test: any size) and resize by '
            'area (this test: None) and steps none (this test: '
            'CenterCrop(56))',
        ),
        (
            dict(interpolation='bilinear'),
            'resize by area (this test: bilinear); repeat the --cfg-options',
        ),
    ],
)
def test_another_size_or_resize_is_refused(change, words):
    same = ClsDataPreprocessor()
    with pytest.raises(UserError) as caught:
        check({}, same, dict(SIZE, **change))
    assert words in str(caught.value) and '--other-input' in str(caught.value)
    told = check({}, same, dict(SIZE, **change), other_input=True)
    assert len(told) == 1 and 'on purpose' in told[0]


def test_what_is_not_known_is_told_once():
    same = ClsDataPreprocessor()
    told = []
    assert not check_input({}, same, SIZE, 'old.pth', told.append)
    assert len(told) == 1 and 'old.pth does not record size' in told[0]
    assert not check_input(dict(input=SIZE), same, None, 'new.pth', told.append)
    assert len(told) == 2 and 'those of new.pth cannot be checked' in told[1]


STATISTICS = dict(mean=[1.0, 2, 3], std=[4.0, 5, 6], to_rgb=True)


def of_photographs(trained, tested):
    meta = dict(data_preprocessor=trained)
    assert check(meta, ClsDataPreprocessor(**tested)) == []


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
        assert check(meta, PackedMaskPreprocessor(mean=[7.0])) == []
