# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Splits for cross-validation."""

from collections import Counter

import pytest

from hkd_mm.datasets.records import Record
from hkd_mm.datasets.splits import check_split, draw_folds
from hkd_mm.errors import UserError


def records():
    """Two classes, 90 and 30 images; lesions of one to three images."""
    found = []
    for label, count in (('MEL', 90), ('DF', 30)):
        for i in range(count):
            lesion = f'{label}{i // 3}' if i < count // 2 else None
            found.append(Record(f'{label}_{i:02}', '', label, lesion))
    return found


def test_each_image_is_tested_and_validated_once():
    given = records()
    folds = draw_folds(given, 5, seed=1)
    for part in ('test', 'val'):
        ids = sorted(sum((fold[part] for fold in folds), []))
        assert ids == sorted(record.sample_id for record in given)
    for fold in folds:
        assert Counter(fold['train'] + fold['val'] + fold['test']) == Counter(
            record.sample_id for record in given
        )
    for i, fold in enumerate(folds):
        assert fold['val'] == folds[(i + 1) % 5]['test']


def test_folds_are_split_files_of_their_data():
    given = records()
    folds = draw_folds(given, 4)
    for fold in folds:
        check_split(fold, given, 'fold')  # refuses lesions in two parts
    assert len({fold['hash'] for fold in folds}) == 4
    assert draw_folds(given[::-1], 4) == folds
    assert draw_folds(given, 4, seed=7) != folds


def test_classes_keep_their_share_to_a_lesion():
    for fold in draw_folds(records(), 3):
        counts = fold['counts']['test']
        assert abs(counts['MEL'] - 30) <= 3 and abs(counts['DF'] - 10) <= 3


def test_two_folds_are_too_few():
    with pytest.raises(UserError, match='at least 3 are needed'):
        draw_folds(records(), 2)
