# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Damaged and odd files of runs, and names of anybody, in a report."""

import csv
import hashlib
import html
import json
import re
import shutil

import pytest

from hkd_mm.errors import UserError
from hkd_mm.io.tables import write_table
from hkd_mm.report import make_report
from hkd_mm.report.classes import confusion_section, f1_section
from hkd_mm.report.comparison import comparison_section, cost_section
from hkd_mm.report.data import gather, read_predictions
from hkd_mm.report.model_card import card_section
from hkd_mm.report.report import drawn
from hkd_mm.report.training import training_section


@pytest.fixture
def run(study_dir, tmp_path):
    """A run of that study, to write in."""
    return shutil.copytree(study_dir / 'seed0/kd', tmp_path / 'kd')


def cut(text):
    return text[: len(text) // 2].rpartition('\n')[0] + '\n'


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        (lambda text: text[:-20], 'cells and the header'),
        (lambda text: re.sub(r'0\.\d+', 'nan', text, count=1), 'a score is no number'),
        (lambda text: re.sub(r'0\.\d+', 'wide', text, count=1), "float: 'wide'"),
        (lambda text: text.replace(',bcc,', ',other,', 1), 'other'),
        (lambda text: text + text.splitlines()[-1] + '\n', 'stands there twice'),
        (lambda text: text.splitlines()[0] + '\n', 'has no rows'),
        (lambda text: '', 'has no rows|empty'),
        (lambda text: '{"a": 1}\n[2]\n', 'sample_id'),
    ],
)
def test_damaged_predictions_are_one_line_with_the_command(run, change, told):
    path = run / 'predictions.csv'
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=told) as caught:
        gather([str(run)])
    line = str(caught.value)
    assert '\n' not in line and str(path) in line
    assert line.endswith(f'write it again with: python tools/test.py {run}')


def test_names_of_anybody_are_read_as_a_test_wrote_them(tmp_path):
    classes = ['Acne', 'acne', 'a;b;c;d;e;f;g', ' x ', "'=1", '-', 'é"']
    header = ['sample_id', 'lesion_id', 'label', 'prediction']
    ids = [f'{i}\n, {name}' for i, name in enumerate(classes)]
    scores = [0.1, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1]
    write_table(
        tmp_path / 'predictions.csv',
        [*header, *(f'score_{name}' for name in classes)],
        [[one, None, name, 'x', *scores] for one, name in zip(ids, classes)],
    )
    found = read_predictions(tmp_path / 'predictions.csv')
    assert found.classes == classes and found.sample_ids == ids
    assert found.labels.tolist() == [*range(7)]
    assert (found.scores == scores).all()


def test_predictions_cut_after_the_run_are_not_reported(run):
    path, record = run / 'predictions.csv', run / 'test.json'
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    figures = json.loads(record.read_text())
    figures['provenance'] = dict(files={'predictions.csv': digest})
    record.write_text(json.dumps(figures))
    assert len(gather([str(run)]).sample_ids) == 240
    path.write_text(cut(path.read_text()))
    with pytest.raises(UserError, match=r'is not whole.*tools/test\.py'):
        gather([str(run)])


@pytest.mark.parametrize(
    'text', ['{', '[1]', '{"a": 1}', '[{"epoch": "x"}]', '[' * 5000]
)
def test_a_damaged_history_costs_its_section_alone(run, text):
    (run / 'history.json').write_text(text)
    left_out = training_section(gather([str(run)])).left_out
    assert 'history.json: ' in left_out and 'is done again' in left_out


def test_an_epoch_that_was_not_finite_is_a_gap(run):
    history = [
        dict(epoch=1, train=dict(loss=1.0), val=dict(balanced_accuracy=0.5)),
        dict(epoch=2, train=dict(loss=None), val=dict(balanced_accuracy=None)),
        dict(epoch=3),
    ]
    (run / 'history.json').write_text(json.dumps(history))
    losses, validation = training_section(gather([str(run)])).charts
    assert list(validation.figure.data[0].x) == [1]
    assert losses.figure.data[0].y[0] == 1


@pytest.mark.parametrize(
    ('student', 'told'),
    [
        ('small', 'student: .* an object'),
        (dict(parameters='many'), 'student: parameters: .*number'),
        (dict(parameters=1, input_size=[1]), 'student: input_size'),
    ],
)
def test_a_network_of_no_numbers_is_named(run, student, told):
    path = run / 'metrics.json'
    path.write_text(json.dumps(dict(json.loads(path.read_text()), student=student)))
    with pytest.raises(UserError, match=told):
        cost_section(gather([str(run)]))


def test_what_is_not_known_of_a_network_is_no_cost(run):
    path = run / 'metrics.json'
    student = dict(parameters=None, gmacs=None, input_size=None)
    path.write_text(json.dumps(dict(json.loads(path.read_text()), student=student)))
    found = gather([str(run), f'b={run}'])
    assert {c.name for c in cost_section(found).charts} == {'cost-minutes'}
    assert 'parameters' not in dict(card_section(found).blocks[0].items)['Model']


@pytest.mark.parametrize(
    'content', [dict(packages=[1]), dict(command=7), dict(gpus=3), dict(cpu=['x'])]
)
def test_an_odd_environment_is_named(run, content):
    (run / 'environment.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match='environment.json: .*move it away'):
        card_section(gather([str(run)]))


NAMES = [
    '<img src=x onerror=alert(1)>',
    "[x](javascript:alert(1)) a|b ` {{ 7 }} %{x} &lt;b&gt; =cmd|' /C calc'!A0 \"",
    '黒色腫 סרטן ' + 'long ' * 50,
]


@pytest.fixture
def named_runs(study_dir, tmp_path):
    """Runs whose classes and rows have those names."""
    places = []
    for number, row in enumerate(('teacher', 'alone', 'kd')):
        folder = shutil.copytree(study_dir / 'seed0' / row, tmp_path / str(number))
        for file in ('predictions.csv', 'predictions_val.csv'):
            with (folder / file).open(newline='') as stream:
                rows = list(csv.reader(stream))
            names = dict(zip(('bcc', 'mel', 'nv'), NAMES))
            names |= {f'score_{old}': f'score_{new}' for old, new in names.items()}
            with (folder / file).open('w', newline='', encoding='utf-8') as stream:
                csv.writer(stream).writerows([names.get(c, c) for c in r] for r in rows)
        places.append(f'<script>alert({number})</script>\udcff={folder}')
    return places


def test_names_of_anybody_are_text_in_the_page(named_runs, tmp_path):
    title = '</title><script>alert(9)</script>\udcfe'
    options = dict(images=False, cam_images=0, calibration=False, title=title)
    page = make_report(
        named_runs, str(tmp_path / 'x.html'), options=options,
        baselines=[named_runs[1].rpartition('=')[0]], report=lambda line: None,
    )  # fmt: skip
    text = page.read_text('utf-8')
    assert (
        '<img' not in text and '<script>alert' not in text and 'href="java' not in text
    )
    for name in NAMES:
        assert f'>{html.escape(name.strip()).replace("&#x27;", "&#39;")}'.replace(
            '&quot;', '&#34;') in text  # fmt: skip
    figures = re.findall(r'application/json">(.*?)</script>', text)
    assert len(figures) > 10
    for figure in figures:
        texts = re.findall(r'"((?:[^"\\]|\\.)*)"', figure)
        tags = {tag for t in texts for tag in re.findall(r'\\u003c/?(\w+)', t)}
        assert tags <= {'br', 'extra'}
        assert not any('%{x} &' in t or (' ' in t and len(t) > 400) for t in texts)


def test_many_and_long_names_leave_figures_readable(study_dir):
    found = gather([str(study_dir)])
    found.classes = [f'{i} ' + 'long ' * 50 for i in range(100)]
    for method in found.methods:
        rest = (*method.scores.shape[:2], 97)
        import numpy as np

        method.scores = np.concatenate([method.scores, np.zeros(rest)], 2)
    chart, table = f1_section(found).blocks
    assert [row[0] for row in table.rows] == found.classes
    section = confusion_section(found)
    for one in (chart, *section.charts):
        trace = one.figure.data[0]
        assert trace.texttemplate == '' and len(set(trace.x)) == 100
        assert max(map(len, trace.x)) < 80
    assert section.tile is None and section.charts[0].height > 1500


def test_files_of_figures_never_share_a_name(tmp_path, monkeypatch):
    pytest.importorskip('kaleido')
    from plotly import graph_objects as go

    from hkd_mm.report.page import Chart, Section

    figure = go.Figure([go.Scatter(y=[1])])
    choices = dict.fromkeys(['a|b', 'a/b', '黒', '色', '', 'x' * 250, 'x' * 251], [0])
    written = []

    def write(fig, file, **words):
        written.extend(path.name for path in file)
        for path in file:
            path.write_text('<svg/>')

    monkeypatch.setattr('plotly.io.write_images', write)
    drawn([Section('s', 'S', blocks=[Chart('roc', figure, '', 300, choices)])])
    assert len(set(written)) == len(choices) and max(map(len, written)) < 80
    assert not any('/' in name for name in written)


def test_a_long_row_is_shown_whole_in_the_table(named_runs):
    section = comparison_section(gather(named_runs))
    titles = [place.rpartition('=')[0] for place in named_runs]
    assert [row[0] for row in section.blocks[0].rows] == titles
