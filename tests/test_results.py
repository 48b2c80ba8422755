# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Published tables say what the stored runs say."""

import json
import math
import statistics
from pathlib import Path

import pytest

from hkd_mm.experiments.table_text import format_mean_sd
from hkd_mm.metric_names import OF_NETS, title_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'docs/results'
KEYS = ('balanced_accuracy', 'top1', 'macro_f1', 'macro_auroc')
STUDIES = sorted(
    path
    for pattern in ('*/results.json', '*/*/results.json')
    for path in RESULTS.glob(pattern)
    if 'study' in json.loads(path.read_text())
)


@pytest.mark.parametrize('page', ['docs/results/README.md', 'README.md'])
def test_pages_quote_the_table_as_it_is(page):
    lines = (ROOT / page).read_text().splitlines()
    quoted = [line for line in lines if ' +- ' in line and line.startswith('|')]
    known = {
        line
        for pattern in ('*/*/table.md', '*/table.md')
        for path in RESULTS.glob(pattern)
        for line in path.read_text().splitlines()
    }
    assert set(quoted) <= known


def test_pages_say_of_the_student_that_ships_what_its_manifest_does():
    manifest = ROOT / 'models/ham10000_small/manifest.json'
    metrics = json.loads(manifest.read_text())['metrics']
    keys = ('balanced_accuracy', 'top1', 'macro_f1', 'macro_auroc')
    cells = [metrics['val'][keys[0]], *(metrics['test'][key] for key in keys)]
    row = ' | '.join(f'{cell:.3f}' for cell in cells)
    assert f'| student, 15 epochs | {row} |' in (RESULTS / 'README.md').read_text()
    balanced, auroc = (f'{metrics["test"][key]:.3f}' for key in (keys[0], keys[3]))
    said = f'balanced accuracy is {balanced} and its macro AUROC {auroc}'
    assert said in (ROOT / 'README.md').read_text()
    stored = json.loads((RESULTS / 'ham10000_small/test.json').read_text())
    assert {key: stored[key] for key in keys} == {
        key: metrics['test'][key] for key in keys
    }


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.parent.name)
def test_every_row_of_a_study_follows_from_its_runs(path):
    """Means and sd of every column, computed anew."""
    report = json.loads(path.read_text())
    text = (path.parent / 'table.md').read_text()
    header, _, *table = text.partition('\n\n')[0].splitlines()
    names = header.strip('| ').split(' | ')
    for row, shown in zip(report['rows'], table, strict=True):
        runs = row['test_runs']
        assert len(runs) == row['seeds'] and report['seeds'] > 1
        fewer = row['seeds'] < report['seeds']  # a teacher that all students share
        assert not fewer or row['seeds'] == 1
        cells = dict(zip(names, shown.strip('| ').split(' | ')))
        assert cells['network'] == row['title'] + ' (1 seed)' * fewer
        for key in row['test'].keys() - set(OF_NETS):
            values = [run[key] for run in runs]
            sd = math.nan if fewer else statistics.stdev(values)
            assert cells[title_of(key)] == format_mean_sd(statistics.mean(values), sd)
    assert len(row['test'].keys() - set(OF_NETS)) >= 3
    assert '/work' not in path.read_text()
    assert report.get('caption', '') in text


def test_the_curve_of_views_is_quoted_as_it_is():
    folder = RESULTS / 'num_views'
    table = (folder / 'table.md').read_text().splitlines()
    page = (ROOT / 'docs/teacher_cache.md').read_text().splitlines()
    assert len(table) == 8 and set(table) <= set(page)
    report = json.loads((folder / 'results.json').read_text())
    for row, line in zip(report['rows'], table[2:], strict=True):
        cells = [f'{row["test"][key][0]:.3f}' for key in KEYS]
        assert line.split(' | ')[-4:] == [*cells[:3], f'{cells[3]} |']
        for seed in range(row['seeds']):
            log = folder / f'{row["num_views"]}_seed{seed}_history.json'
            epochs = json.loads(log.read_text())
            assert len(epochs) == row['epochs'] == 20
