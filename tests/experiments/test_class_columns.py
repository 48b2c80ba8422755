# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Columns of single classes are held against the data before any training."""

from dataclasses import replace
from pathlib import Path

import pytest

from hkd_mm.errors import UserError
from hkd_mm.experiments.run_study import check_class_columns
from hkd_mm.experiments.study import all_runs, of_configs


def check(configs, *metrics, options=()):
    study = of_configs([str(configs['student'])])
    study = replace(study, metrics=('top1', *metrics))
    check_class_columns(study, all_runs(study, range(2)), list(options), Path('w'))


def test_classes_of_the_data_pass(tiny_configs):
    check(tiny_configs, 'Acne/f1', 'Benign/support')
    # nothing is read where no column asks for it
    check(tiny_configs, options=['data_root=nowhere'])


def test_a_class_that_the_data_lacks_is_named(tiny_configs):
    said = 'metrics has MEL/f1, but the classes of .* are Acne, '
    with pytest.raises(UserError, match=said) as caught:
        check(tiny_configs, 'Acne/f1', 'MEL/f1')
    assert '\n' not in str(caught.value) and '--size' in str(caught.value)


def test_a_class_without_a_test_image_is_named(tiny_configs, monkeypatch):
    from hkd_mm.datasets.skin_disease import SkinDisease

    plain = SkinDisease.get_gt_labels
    monkeypatch.setattr(SkinDisease, 'get_gt_labels', lambda self: plain(self) * 0)
    check(tiny_configs, 'Acne/f1', 'Benign/support')
    with pytest.raises(UserError, match='no test image of Benign'):
        check(tiny_configs, 'Benign/f1')


def test_the_tool_refuses_before_it_trains(tiny_configs, tool, capfd):
    study = Path('s.py')
    study.write_text(
        f'rows = dict(a=dict(config={str(tiny_configs["student"])!r}))\n'
        "metrics = ['top1', 'MEL/f1']\n"
    )
    assert tool('compare')([str(study), '--work-dir', 'w']) == 2
    assert 'metrics has MEL/f1' in capfd.readouterr().err
    assert not list(Path('w').glob('seed*'))
