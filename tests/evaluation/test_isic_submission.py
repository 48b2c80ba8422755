# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Our scores against those of the ISIC challenge's own program.

The golden values were made by tools/dev/isic_golden.py.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from hkd_mm.errors import UserError
from hkd_mm.evaluation.classification_scores import classification_scores
from hkd_mm.evaluation.isic_submission import write_submission

GOLDEN = json.loads((Path(__file__).parent / 'data/isic_golden.json').read_text())


@pytest.mark.parametrize('case', GOLDEN['cases'], ids='012')
def test_our_own_metrics_agree_where_they_mean_the_same(case):
    found, _ = classification_scores(
        np.array(case['scores']), np.array(case['labels']), GOLDEN['classes']
    )
    assert found['balanced_accuracy'] == pytest.approx(case['balanced_accuracy'])
    assert found['macro_auroc'] == pytest.approx(case['macro_average']['auc'])
    for name, expected in case['per_category'].items():
        assert found[f'{name}/auroc'] == pytest.approx(expected['auc'])


def submitted(path, *given):
    write_submission(path, *given)
    with path.open(newline='') as stream:
        return list(csv.reader(stream))


def test_the_submission_lists_classes_as_the_challenge_does(tmp_path):
    classes = ('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc')
    scores = np.arange(14).reshape(2, 7) / 100
    lines = submitted(tmp_path / 's.csv', ['ISIC_1', '=1+1'], scores, classes)
    assert lines[0] == ['image', *GOLDEN['classes']]
    assert lines[1][:3] == ['ISIC_1', '0.04000', '0.05000']  # mel, nv
    assert (lines[2][0], lines[2][4]) == ("'=1+1", '0.07000')  # akiec


def test_the_category_that_nobody_learns_is_nought(tmp_path):
    classes = ('MEL', 'NV', 'BCC', 'AK', 'BKL', 'DF', 'VASC', 'SCC')
    scores = np.full((1, 8), 0.125)
    head, line = submitted(tmp_path / 's.csv', ['ISIC_1'], scores, classes)
    assert head == ['image', *classes, 'UNK']
    assert line == ['ISIC_1', *['0.12500'] * 8, '0.00000']


def test_what_is_no_submission_is_refused(tmp_path):
    path = tmp_path / 's.csv'
    with pytest.raises(UserError, match='classes acne nv are those of no'):
        write_submission(path, ['a'], np.eye(2)[:1], ['acne', 'nv'])
    with pytest.raises(UserError, match='names of its images'):
        write_submission(path, ['a', None], np.eye(7)[:2], GOLDEN['classes'])
    assert not path.exists()
