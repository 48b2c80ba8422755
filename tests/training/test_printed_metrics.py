# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Figures on the terminal show names as they are."""

from hkd_mm.training.results import print_metrics


def test_names_are_no_markup(capsys):
    figures = {'balanced_accuracy': 0.5, '[/x]/f1': 0.25, '[red]b/f1': 1.0}
    print_metrics(figures, 'run [/bold]')
    shown = capsys.readouterr().out
    for text in ('run [/bold]', '[/x]', '[red]b', '0.2500', 'balanced_accuracy'):
        assert text in shown
