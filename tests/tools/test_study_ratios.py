# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The figure of gain against force is drawn from a study's results."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _results(folder, rows):
    folder = folder / 'results.json'
    against = {
        name: dict(alone=dict(mean=mean, low=mean - 0.5, high=mean + 0.5))
        for name, mean in rows.items()
    }
    found = [dict(name=name, against=against[name]) for name in rows]
    folder.write_text(json.dumps(dict(rows=[dict(name='alone'), *found])))
    return folder


def test_a_panel_a_family_and_a_line_a_method(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools/dev'))
    tool = runpy.run_path(str(ROOT / 'tools/dev/study_ratios.py'))
    rows = {'dist_0.3': 0.25, 'dist_1': 0.5, 'wkd_l_3': 0.125, 'sp_1': -0.25}
    rows['alone_0.004'] = 0.1  # the student alone at another rate is no method
    results = _results(tmp_path, rows)
    assert tool['gains'](results, 'alone') == {
        'dist': {0.3: [0.25, -0.25, 0.75], 1.0: [0.5, 0.0, 1.0]},
        'wkd_l': {3.0: [0.125, -0.375, 0.625]},
        'sp': {1.0: [-0.25, -0.75, 0.25]},
    }
    tool['main']([str(results), '--out', str(tmp_path / 'figure.svg')])
    text = (tmp_path / 'figure.svg').read_text()
    assert all(f'<!-- {word} -->' in text for word in ('DIST', 'WKD-L', 'SP'))
    assert all(f'<!-- {word} -->' in text for word in ('response', 'relation'))


def test_every_ratio_of_a_panel_is_at_its_axis(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools/dev'))
    tool = runpy.run_path(str(ROOT / 'tools/dev/study_ratios.py'))
    results = _results(tmp_path, {'dist_0.3': 0.25, 'dist_3': 0.5, 'dkd_1': 0.5})
    tool['main']([str(results), '--out', str(tmp_path / 'figure.svg')])
    text = (tmp_path / 'figure.svg').read_text()
    assert all(f'<!-- {ratio} -->' in text for ratio in ('0.3', '1', '3'))
