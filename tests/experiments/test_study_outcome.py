# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From run folders to a table: means, significance, predictions."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hkd_mm.errors import UserError
from hkd_mm.evaluation.significance import holm, paired_difference
from hkd_mm.experiments.outcome import read_outcomes
from hkd_mm.experiments.study import Study, StudyRow
from hkd_mm.experiments.study_report import (
    caption,
    markdown,
    terminal,
    write_tables,
)
from hkd_mm.experiments.table_text import make_console
from hkd_mm.io.files import sha256
from hkd_mm.io.tables import written_rows
from hkd_mm.metric_names import title_of

CLASSES = np.array(['MEL', 'NV', 'BCC'])
RATES = dict(teacher=0.9, alone=0.5, kd=0.7, dist=0.52)


@pytest.fixture
def study(tmp_path):
    """Four rows of two seeds on 300 images of 150 lesions."""
    random = np.random.default_rng(0)
    labels = np.repeat(random.integers(0, 3, 150), 2)
    for name, rate in RATES.items():
        for seed in range(2):
            right = random.random(300) < rate
            chosen = np.where(right, labels, (labels + 1) % 3)
            folder = tmp_path / f'seed{seed}/{name}'
            write_run(folder, labels, chosen, seed)
    rows = tuple(
        StudyRow(name, name.upper(), Path(f'{name}.py'), tested=name != 'teacher')
        for name in RATES
    )
    return Study(Path('s.py'), 'S', rows, ('alone', 'kd'), 'balanced_accuracy')


def write_run(folder, labels, chosen, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    score = float(np.mean(labels == chosen))
    figures = dict(
        balanced_accuracy=score, top1=score, macro_f1=score, macro_auroc=score
    )
    report = dict(
        training_minutes=2.0,
        epochs=3,
        best=figures,
        seed=seed,
        split_hash='5911',
        student=dict(parameters=700_000),
    )
    (folder / 'metrics.json').write_text(json.dumps(report))
    (folder / 'test.json').write_text(json.dumps(figures))
    (folder / 'student.pth').touch()
    order = np.random.default_rng(len(str(folder))).permutation(len(labels))
    with (folder / 'predictions.csv').open('w', newline='') as stream:
        writer = csv.writer(stream)
        writer.writerow(['sample_id', 'lesion_id', 'label', 'prediction'])
        for i in order:  # as another sampler would have it
            lesion = f'l{i // 2}' if i < 290 else ''
            writer.writerow([f'{i:03}', lesion, CLASSES[labels[i]], CLASSES[chosen[i]]])


def read_back(folder):
    with (folder / 'predictions.csv').open(newline='') as stream:
        lines = sorted(csv.DictReader(stream), key=lambda x: x['sample_id'])
    code = {name: i for i, name in enumerate(sorted(CLASSES))}
    return (
        np.array([code[line['label']] for line in lines]),
        np.array([code[line['prediction']] for line in lines]),
        [line['lesion_id'] or line['sample_id'] for line in lines],
    )


def _recalls(runs):
    """Balanced accuracy by hand."""
    return [
        dict(balanced=np.mean([(chosen[labels == k] == k).mean() for k in range(3)]))
        for labels, chosen, _ in runs
    ]


def test_figures_and_differences_are_those_of_the_runs(study, tmp_path):
    outcomes = read_outcomes(study, tmp_path, range(2))
    assert [o.row.name for o in outcomes] == list(RATES)
    kd = outcomes[2]
    scores = [test['top1'] for test in kd.tests]
    mean, sd = kd.test('top1')
    assert mean == pytest.approx(np.mean(scores))
    assert sd == pytest.approx(np.std(scores, ddof=1))
    runs = [read_back(tmp_path / f'seed{s}/kd') for s in range(2)]
    base = [read_back(tmp_path / f'seed{s}/alone') for s in range(2)]
    expected = paired_difference(
        runs[0][0],
        np.array([run[1] for run in runs]),
        np.array([run[1] for run in base]),
        runs[0][2],
    )
    found = kd.against['alone']
    assert found[:5] == pytest.approx(expected[:5])
    gains = [
        kd_run['balanced'] - base_run['balanced']
        for kd_run, base_run in zip(_recalls(runs), _recalls(base))
    ]
    assert found.by_seed == pytest.approx(gains) and found.seeds == 2
    p = [outcomes[i].against['alone'].p for i in (2, 3)]
    assert [outcomes[i].adjusted['alone'] for i in (2, 3)] == holm(p)
    assert outcomes[0].against == {}  # the teacher is not tested
    assert set(outcomes[1].against) == {'kd'}


def test_a_row_of_fewer_seeds_is_told_and_not_paired(study, tmp_path):
    shutil.rmtree(tmp_path / 'seed1/teacher')
    shutil.rmtree(tmp_path / 'seed1/kd')
    assert len(read_outcomes(study, tmp_path, range(2))) == 2
    few = ('teacher', 'kd')
    rows = tuple(replace(r, seeds=1 if r.name in few else None) for r in study.rows)
    study = replace(study, rows=rows)
    outcomes = read_outcomes(study, tmp_path, range(2))
    assert [len(o.tests) for o in outcomes] == [1, 2, 1, 2]
    assert [set(o.against) for o in outcomes] == [set(), set(), set(), {'alone'}]
    lines = markdown(study, outcomes).splitlines()
    assert lines[2].startswith('| TEACHER (1 seed) | ')
    assert lines[3].startswith('| ALONE | ')
    assert lines[4].startswith('| KD (1 seed) | ') and lines[4].endswith(' |  |  |')
    assert 'mean +- sample sd over 2 seeds' in caption(study, outcomes)
    assert not np.isnan(outcomes[2].interval).any()
    # with one seed all have as many, and all are compared
    alike = read_outcomes(study, tmp_path, range(1))
    assert set(alike[2].against) == {'alone'}
    assert markdown(study, alike).splitlines()[2].startswith('| TEACHER | ')


def test_one_lesion_has_figures_and_no_differences(study, tmp_path):
    for path in tmp_path.rglob('predictions.csv'):
        with path.open(newline='') as stream:
            lines = list(csv.DictReader(stream))
        with path.open('w', newline='') as stream:
            writer = csv.DictWriter(stream, list(lines[0]))
            writer.writeheader()
            writer.writerows(dict(line, lesion_id='l0') for line in lines)
    outcomes = read_outcomes(study, tmp_path, range(2))
    assert all(not o.against and np.isnan(o.interval).all() for o in outcomes)
    text = markdown(study, outcomes)
    assert 'All images are of one lesion, so there' in text
    kd = next(line for line in text.splitlines() if line.startswith('| KD'))
    assert kd.count(' +- ') == 4 and kd.endswith(' |  | 2.0 |  |  |')
    write_tables(study, outcomes, tmp_path, {})
    assert '"against": {}' in (tmp_path / 'results.json').read_text()


def test_a_row_with_a_missing_seed_is_left_out(study, tmp_path):
    (tmp_path / 'seed1/dist/test.json').unlink()
    names = [o.row.name for o in read_outcomes(study, tmp_path, range(2))]
    assert names == ['teacher', 'alone', 'kd']
    names = [o.row.name for o in read_outcomes(study, tmp_path, range(1))]
    assert names == list(RATES)


def test_a_row_that_answers_one_class_is_marked(study, tmp_path):
    assert 'ONE CLASS' not in markdown(study, read_outcomes(study, tmp_path, range(2)))
    path = tmp_path / 'seed1/kd/test.json'
    figures = json.loads(path.read_text())
    figures |= {'predicted_classes': 1.0, 'MEL/support': 9, 'NV/support': 3}
    path.write_text(json.dumps(figures))
    outcomes = read_outcomes(study, tmp_path, range(2))
    lines = markdown(study, outcomes).splitlines()
    marked = [line.startswith('| KD * |') for line in lines]
    assert sum(marked) == 1 and sum(' * |' in line for line in lines) == 1
    assert (
        '* ONE CLASS ONLY: predicts one class for every test image, KD in 1 '
        'of 2 runs.' in lines[-1]
    )
    write_tables(study, outcomes, tmp_path / 'out', {})
    stored = json.loads((tmp_path / 'out/results.json').read_text())
    assert [row['one_class_runs'] for row in stored['rows']] == [0, 0, 1, 0]


def test_other_images_are_refused(study, tmp_path):
    path = tmp_path / 'seed1/kd/predictions.csv'
    path.write_text(path.read_text().replace('007', '700'))
    with pytest.raises(UserError, match='holds other images'):
        read_outcomes(study, tmp_path, range(2))
    other = tmp_path / 'seed0/kd/predictions.csv'
    other.write_text(other.read_text().replace('007', '700'))
    with pytest.raises(UserError, match='cannot be compared image by image'):
        read_outcomes(study, tmp_path, range(2))


def test_a_damaged_file_is_named(study, tmp_path):
    (tmp_path / 'seed1/kd/test.json').write_text('{')
    with pytest.raises(UserError, match='kd/test.json: .*; remove .*/kd, and the run'):
        read_outcomes(study, tmp_path, range(2))


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('metrics.json', '[' * 10**6),
        ('metrics.json', '{"training_minutes": "2"}'),
        ('metrics.json', '{"training_minutes": 2, "best": 3}'),
        ('test.json', '[1]'),
        ('test.json', '{"top1": "0.5"}'),
        ('latency.json', '{"median_ms": -1}'),
        ('latency.json', '{}'),
        ('predictions.csv', ''),
        ('predictions.csv', 'sample_id,lesion_id,label,prediction\n'),
        ('predictions.csv', 'sample_id,lesion_id,label,prediction\n000,l0,MEL'),
    ],
)
def test_absurd_files_of_runs_are_one_line(study, tmp_path, name, text):
    (tmp_path / 'seed1/kd' / name).write_text(text)
    with pytest.raises(UserError, match=f'seed1/kd/{name}') as caught:
        read_outcomes(study, tmp_path, range(2))
    assert '\n' not in str(caught.value)


def test_predictions_that_were_cut_enter_no_table(study, tmp_path):
    path = tmp_path / 'seed1/kd/predictions.csv'
    test = path.with_name('test.json')
    facts = dict(files={path.name: sha256(path)})
    test.write_text(json.dumps(dict(json.loads(test.read_text()), provenance=facts)))
    assert read_outcomes(study, tmp_path, range(2))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(''.join(lines[: len(lines) // 2]))
    with pytest.raises(UserError, match='kd/predictions.csv is not whole'):
        read_outcomes(study, tmp_path, range(2))


def test_figures_that_are_no_numbers_leave_a_gap(study, tmp_path):
    for path in tmp_path.glob('seed1/kd/test.json'):
        path.write_text(path.read_text().replace('"top1": ', '"top1": NaN, "x": '))
    outcomes = read_outcomes(study, tmp_path, range(2))
    assert np.isnan(outcomes[2].test('top1')).all()
    assert not np.isnan(outcomes[2].test('macro_f1')).any()


def test_names_of_any_bytes_and_signs_cost_no_table(study, tmp_path):
    odd = b'caf\xe9'.decode(errors='surrogateescape')
    for path in tmp_path.rglob('predictions.csv'):
        data = path.read_bytes().replace(b'\n000,', b'\ncaf\xe9,')
        path.write_bytes(data.replace(b'\n001,', b'\n=1+1,'))
    title = 'K|D `x` <b>[a](b)\n\\ ' + odd
    rows = tuple(replace(row, title=title) for row in study.rows)
    study = replace(study, rows=rows)
    outcomes = read_outcomes(study, tmp_path, range(2))
    write_tables(study, outcomes, tmp_path / 'out', dict(place=odd))
    lines = (tmp_path / 'out/table.md').read_text().splitlines()
    assert len(lines) == 8
    shown = r'| K\|D \`x\` &lt;b>\[a\]\(b) \\ caf' + '\ufffd |'
    assert all(line.startswith(shown) for line in lines[2:6])
    stored = json.loads((tmp_path / 'out/results.json').read_text())
    assert stored['place'] == odd and stored['rows'][0]['title'] == title
    ids = [row[0] for row in written_rows(tmp_path / 'out/predictions.csv')]
    assert ids[0] == 'sample_id'
    assert odd in ids and '=1+1' in ids
    assert b"\n'=1+1," in (tmp_path / 'out/predictions.csv').read_bytes()
    console = make_console(300)
    with console.capture() as printed:
        console.print(terminal(study, outcomes))
    assert '[a](b)' in printed.get()


def test_a_metric_that_a_test_lacks_is_named(study, tmp_path):
    other = replace(study, metrics=('top1', 'nv/f1'))
    with pytest.raises(UserError, match='test of teacher has no nv/f1'):
        read_outcomes(other, tmp_path, range(2))


def test_one_seed_is_told_without_a_spread(study, tmp_path):
    outcomes = read_outcomes(study, tmp_path, range(1))
    write_tables(study, outcomes, tmp_path / 'out', {})
    text = (tmp_path / 'out/results.json').read_text()
    assert 'NaN' not in text
    assert json.loads(text)['rows'][0]['test']['top1'][1] is None
    said = caption(study, outcomes)
    assert '; one seed; ' in said and 'of these networks alone' in said


def test_other_seeds_than_the_baseline_are_refused(study, tmp_path):
    path = tmp_path / 'seed1/kd/metrics.json'
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 7'))
    with pytest.raises(UserError, match='seeds 0, 7 and alone with 0, 1'):
        read_outcomes(replace(study, baselines=('alone',)), tmp_path, range(2))


def test_a_class_that_validation_lacks_costs_no_table(study, tmp_path):
    for path in tmp_path.glob('seed*/*/test.json'):
        path.write_text(path.read_text().replace('{', '{"NV/f1": 0.5, ', 1))
    other = replace(study, metrics=('top1', 'NV/f1'))
    outcomes = read_outcomes(other, tmp_path, range(2))
    write_tables(other, outcomes, tmp_path / 'out', {})
    stored = json.loads((tmp_path / 'out/results.json').read_text())
    assert stored['rows'][2]['validation']['NV/f1'] == [None, None]
    assert stored['rows'][2]['test']['NV/f1'] == [0.5, 0.0]


def test_the_tables_say_the_same(study, tmp_path):
    outcomes = read_outcomes(study, tmp_path, range(2))
    write_tables(study, outcomes, tmp_path / 'out', dict(study='s.py'))
    text = (tmp_path / 'out/table.md').read_text()
    assert text == markdown(study, outcomes)
    lines = text.splitlines()
    assert lines[0].startswith('| network | balanced accuracy |')
    assert 'against ALONE' in lines[0] and len(lines) == 8
    assert 'balanced accuracy, 95 % interval' in lines[0]
    assert lines[6] == '' and lines[7] == caption(study, outcomes)
    kd = outcomes[2]
    mean, sd = kd.test('balanced_accuracy')
    assert f'| KD | {mean:.3f} +- {sd:.3f} |' in lines[4]
    low, high = kd.interval
    assert f'| [{low:.3f}, {high:.3f}] | 2.0 |' in lines[4]
    found = kd.against['alone']
    assert f'{found.mean:+.3f} [{found.low:+.3f}, ' in lines[4]
    stored = json.loads((tmp_path / 'out/results.json').read_text())
    assert stored['study'] == 's.py'
    assert stored['test'] == dict(
        images=300,
        groups=155,
        split_hashes=['5911'],
        checkpoint='the best on validation',
    )
    assert stored['caption'] == caption(study, outcomes)
    assert stored['rows'][2]['against']['alone']['p'] == found.p
    assert terminal(study, outcomes).row_count == 4
    # 145 lesions of two images and ten images of none
    said = ' '.join(caption(study, outcomes).split())
    assert '300 images of 155 lesions' in said and '2 seeds' in said
    with (tmp_path / 'out/predictions.csv').open(newline='') as stream:
        line = next(csv.DictReader(stream))
    assert line['sample_id'] == '000' and line['lesion_id'] == 'l0'
    labels, chosen, _ = read_back(tmp_path / 'seed1/dist')
    assert line['label'] == sorted(CLASSES)[labels[0]]
    assert line['dist_seed1'] == sorted(CLASSES)[chosen[0]]


def test_what_the_paper_has_stands_beside(study, tmp_path):
    papers = dict(
        kd=dict(top1=0.8146, minutes=124.16, parameters=0.69),
        alone=dict(top1=0.385, parameters=43.174),
    )
    rows = tuple(replace(row, paper=papers.get(row.name, {})) for row in study.rows)
    metrics = ('top1', 'balanced_accuracy', 'parameters')
    other = replace(study, rows=rows, metrics=metrics, baselines=())
    outcomes = read_outcomes(other, tmp_path, range(2))
    lines = markdown(other, outcomes)
    told = "The paper's figures are of its own images"
    assert f'{told}.' in caption(other, outcomes)
    small = replace(other, size='small')
    assert f'{told} and of other networks.' in caption(small, outcomes)
    plain = read_outcomes(study, tmp_path, range(2))
    assert told not in caption(study, plain)
    cells = [
        [cell.strip() for cell in line.split('|')[1:-1]] for line in lines.splitlines()
    ]
    assert cells[0] == [
        'network',
        'accuracy',
        'balanced accuracy',
        'parameters / M',
        'balanced accuracy, 95 % interval',
        'minutes',
        'paper: accuracy',
        'paper: parameters / M',
        'paper: minutes',
    ]
    by_name = {line[0]: line[5:] for line in cells[2:6]}
    assert by_name['KD'] == ['2.0', '0.8146', '0.69', '124.2']
    assert by_name['ALONE'] == ['2.0', '0.3850', '43.174', '']
    assert by_name['DIST'] == ['2.0', '', '', '']


def test_metrics_of_a_class_have_a_title():
    assert title_of('MEL/f1') == 'F1 of MEL'
    assert title_of('nv/sensitivity') == 'sensitivity of nv'
    assert title_of('top5') == 'top-5 accuracy'


def write_slices(folder, dice):
    """As tools/test.py leaves a segmentation: a figure a slice."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = dict(dice=float(np.mean(dice)), iou=0.5, hd95=3.0)
    report = dict(training_minutes=2.0, epochs=3, best=figures)
    (folder / 'metrics.json').write_text(json.dumps(report))
    (folder / 'test.json').write_text(json.dumps(figures))
    (folder / 'student.pth').touch()
    with (folder / 'predictions.csv').open('w', newline='') as stream:
        writer = csv.writer(stream)
        writer.writerow(['sample_id', 'patient', 'dice'])
        writer.writerows(
            [f'{i:03}', f'p{i // 10}', value] for i, value in enumerate(dice)
        )


def test_segmentations_are_compared_slice_by_slice(tmp_path):
    random = np.random.default_rng(0)
    base = random.uniform(0.3, 0.6, (2, 100))
    for seed in range(2):
        write_slices(tmp_path / f'seed{seed}/alone', base[seed])
        write_slices(tmp_path / f'seed{seed}/kd', base[seed] + 0.1)
    rows = tuple(StudyRow(n, n.upper(), Path(f'{n}.py')) for n in ('alone', 'kd'))
    study = Study(Path('s.py'), 'S', rows, ('alone',), 'dice', ('dice', 'hd95'))
    outcomes = read_outcomes(study, tmp_path, range(2))
    found = outcomes[1].against['alone']
    assert found.mean == pytest.approx(0.1)
    # the same gain on every slice and seed: nothing is left to chance
    assert found.low == pytest.approx(0.1, abs=1e-6)
    assert outcomes[1].predictions.groups[:11] == ['p0'] * 10 + ['p1']
    low, high = outcomes[0].interval
    assert low < base.mean() < high
    assert '100 images of 10 patients' in caption(study, outcomes)
    assert 'Dice' in markdown(study, outcomes).splitlines()[0]
    # a network that marks nothing has no precision: that costs no table
    (tmp_path / 'seed1/kd/test.json').write_text('{"dice": 0.5, "hd95": 3.0}')
    for path in ('seed0/alone', 'seed1/alone', 'seed0/kd'):
        test = tmp_path / path / 'test.json'
        test.write_text('{"dice": 0.5, "hd95": 3.0, "precision": 0.75}')
    other = replace(study, metrics=('dice', 'precision'))
    lines = markdown(other, read_outcomes(other, tmp_path, range(2)))
    cells = [line.split(' | ') for line in lines.splitlines()[2:4]]
    assert [line[2] for line in cells] == ['0.750 +- 0.000', '']
    classes = Study(Path('s.py'), 'S', rows, ('alone',), 'balanced_accuracy')
    with pytest.raises(UserError, match='has no column lesion_id'):
        read_outcomes(classes, tmp_path, range(2))


def test_where_no_lesion_is_known_nothing_is_claimed_of_lesions(study, tmp_path):
    for path in tmp_path.glob('seed*/*/predictions.csv'):
        lines = path.read_text().splitlines()
        cells = [line.split(',') for line in lines]
        kept = [[i, '' if i != 'sample_id' else g, *r] for i, g, *r in cells]
        path.write_text('\n'.join(map(','.join, kept)) + '\n')
    outcomes = read_outcomes(study, tmp_path, range(2))
    said = caption(study, outcomes)
    assert 'Test split, 300 images, lesions unknown, read once' in said
    assert 'interval is over other images' in said
    assert 'paired over seeds and images' in said
    assert 'may be in training and in test' in said
    assert 'of 300 lesions' not in said
    write_tables(study, outcomes, tmp_path / 'out', {})
    stored = json.loads((tmp_path / 'out/results.json').read_text())
    assert stored['test']['groups'] is None
