# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What an export says of confident answers."""

from types import SimpleNamespace

import numpy as np
import pytest

from hkd_mm.evaluation.calibration import temperature_note
from hkd_mm.evaluation.selective import (
    classes_note,
    confident_by_class,
    int8_note,
)
from hkd_mm.export.checks import fit_threshold
from hkd_mm.export.options import ExportOptions
from hkd_mm.export.samples import lesions_of

# named class, probability, true class
ANSWERS = [
    ('nv', 0.9, 'nv'),
    ('nv', 0.9, 'nv'),
    ('nv', 0.9, 'mel'),
    ('nv', 0.8, 'mel'),
    ('mel', 0.9, 'mel'),
    ('mel', 0.6, 'mel'),
    ('mel', 0.8, 'nv'),
    ('nv', 0.7, 'nv'),
]
CLASSES = ['mel', 'nv', 'vasc']


def _arrays(answers):
    scores = np.zeros((len(answers), 3))
    for row, (named, probability, _) in zip(scores, answers):
        row[:] = (1 - probability) / 2
        row[CLASSES.index(named)] = probability
    return scores, np.array([CLASSES.index(true) for *_, true in answers])


def test_counts_by_hand() -> None:
    found = confident_by_class(*_arrays(ANSWERS), CLASSES, 0.8)
    keys = (
        'images',
        'confident_correct',
        'confident_wrong',
        'confident_predicted',
    )
    assert found == {
        'mel': dict(zip(keys, (4, 1, 2, 2))),
        'nv': dict(zip(keys, (4, 2, 1, 4))),
        'vasc': dict(zip(keys, (0, 0, 0, 0))),
    }
    told = classes_note(found)
    assert 'mel (2 wrong, 1 right)' in told and 'nv' not in told
    never = confident_by_class(*_arrays(ANSWERS), CLASSES, None)
    assert [one['images'] for one in never.values()] == [4, 4, 0]
    assert not any(one['confident_predicted'] for one in never.values())
    assert classes_note(never) is None


@pytest.mark.parametrize(
    'temperature, wrong, word',
    [
        (1.0, 1, None),
        (0.061, 1, None),
        (16.6, 1, None),
        (0.059, 1, 'near an end'),
        (16.8, 1, 'near an end'),
        (1.0, 0, 'no validation image is answered wrongly'),
        (0.056, 0, '0.056 and threshold are guesses'),
    ],
)
def test_temperatures_that_mean_nothing_are_told(temperature, wrong, word) -> None:
    answers = [('nv', 0.9, 'nv')] * 9 + [('nv', 0.9, 'mel')] * wrong
    told = temperature_note(temperature, *_arrays(answers))
    assert told is None if word is None else word in told


def test_int8_below_the_wanted_accuracy_is_told() -> None:
    assert int8_note(0.9, 0.5, 0.9) is None
    assert int8_note(0.0, 0.0, 0.9) is None  # no answer, none is wrong
    assert 'right in 89.9%' in int8_note(0.899, 0.5, 0.9)


def test_lesions_are_numbered() -> None:
    names = ['b', None, 'a', 'b', None]
    infos = [dict(lesion_id=name) for name in names]
    assert lesions_of(infos).tolist() == [0, 1, 2, 0, 3]
    assert lesions_of([dict(), dict(lesion_id=None)]) is None


def test_lesions_reach_the_threshold_and_its_rule() -> None:
    """40 right photographs are enough, of 20 lesions they are not."""
    labels = np.zeros(40, int)
    logits = np.tile([[9.0, 0.0]], (40, 1))
    for lesions, enough in ((None, True), (np.arange(40) // 2, False)):
        exporter = SimpleNamespace(
            val=SimpleNamespace(labels=labels, lesions=lesions),
            options=ExportOptions(),
            run=SimpleNamespace(classes=['a', 'b']),
            logits=dict(fp32=logits),
            temperature=1.0,
            checks={},
            report=lambda line: None,
        )
        found = fit_threshold(exporter)
        assert (found.probability is not None) == enough
        assert ('of a lesion count as one' in found.rule) != enough
        assert exporter.checks['confident_lesions'] == (None if enough else 20)
