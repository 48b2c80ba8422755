# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Runs side by side, read from what they left."""

import json
from pathlib import Path

import pytest

from hkd_mm.errors import UserError
from hkd_mm.experiments.runs_table import compare, read_row


def leave_run(folder: Path, score: float, tested: float | None) -> Path:
    folder.mkdir()
    (folder / 'metrics.json').write_text(
        json.dumps(
            dict(
                best=dict(epoch=3, balanced_accuracy=score, top1=0.9, macro_f1=0.7),
                student=dict(parameters=695_400, gmacs=0.0083),
                training_minutes=1.26,
            )
        )
    )
    if tested is not None:
        (folder / 'test.json').write_text(
            json.dumps(dict(balanced_accuracy=tested, top1=0.8, macro_f1=0.6))
        )
    return folder


def test_table_shows_the_test_split_and_the_costs(tmp_path, capsys):
    teacher = leave_run(tmp_path / 'teacher', 0.99, 0.8125)
    student = leave_run(tmp_path / 'student', 0.98, 0.25)
    rows = compare([f'the teacher={teacher}', str(student)], 'Demo')
    assert [row.name for row in rows] == ['the teacher', 'student']
    printed = capsys.readouterr().out
    for text in (
        'Demo',
        'the teacher',
        '0.812',
        '0.250',
        '0.695 M',
        '0.008',
        '1.3',
        'on the test split',
    ):
        assert text in printed
    assert '0.99' not in printed


def test_a_run_that_was_not_tested_is_shown_as_validation(tmp_path, capsys):
    row = read_row(str(leave_run(tmp_path / 'run', 0.5, None)))
    assert (row.split, row.metrics['balanced_accuracy']) == ('validation', 0.5)
    compare([str(tmp_path / 'run'), str(leave_run(tmp_path / 'other', 0.5, 0.4))])
    assert 'on the test or the validation split' in capsys.readouterr().out


@pytest.mark.parametrize('tested', [True, False])
def test_a_run_that_answers_one_class_is_marked(tmp_path, capsys, tested):
    fine = leave_run(tmp_path / 'fine', 0.9, 0.8)
    other = leave_run(tmp_path / 'other', 0.5, 0.5)
    compare([str(fine), str(other)])
    assert '*' not in capsys.readouterr().out
    figures = {'mel/support': 4.0, 'nv/support': 9.0, 'predicted_classes': 1.0}
    if tested:
        (other / 'test.json').write_text(json.dumps(figures))
    else:
        (other / 'test.json').unlink()
        report = json.loads((other / 'metrics.json').read_text())
        report['best'].update(figures)
        (other / 'metrics.json').write_text(json.dumps(report))
    compare([str(fine), str(other)])
    printed = capsys.readouterr().out
    assert 'other *' in printed and 'fine *' not in printed
    assert '* ONE CLASS ONLY: predicts one for every image' in printed


@pytest.mark.parametrize('text', [None, '{"student":', '{"best": null}'])
def test_what_is_no_finished_run_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / 'metrics.json').write_text(text)
    with pytest.raises(UserError, match=str(tmp_path)):
        read_row(str(tmp_path))
