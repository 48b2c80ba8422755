# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From run folders to what a report is made of."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from hkd_mm.errors import UserError
from hkd_mm.experiments.outcome import read_outcomes
from hkd_mm.experiments.study import Plan, Study, StudyRow, write_plan
from hkd_mm.experiments.table_text import format_difference
from hkd_mm.report.comparison import (
    comparison_section,
    cost_section,
    verdict,
)
from hkd_mm.report.data import gather
from hkd_mm.report.model_card import card_section
from hkd_mm.report.sources import add_val_scores
from hkd_mm.report.subgroups import (
    age_band,
    leakage_section,
    shared,
    subgroups_section,
)
from hkd_mm.report.training import loss_parts


def facts(section):
    return dict(section.blocks[0].items)


def test_a_work_dir_is_read(study_dir, study_labels):
    found = gather([str(study_dir)])
    names = [method.name for method in found.methods]
    assert names == ['alone', 'dist', 'kd', 'teacher']
    assert found.classes == ['bcc', 'mel', 'nv'] and found.positive == 1
    assert found.labels.tolist() == study_labels.tolist()
    assert len(set(found.groups)) == 120
    assert found.methods[0].scores.shape == (2, 240, 3)
    # the largest and smallest without a teacher, the best validated with one
    names = {role: method.name for role, method in found.roles.items()}
    assert names == {
        'teacher': 'teacher',
        'student alone': 'alone',
        'distilled': 'kd',
    }
    assert '240 images of 120 lesions; 2 seeds' in found.basis


def test_a_study_gives_titles_order_and_differences(study_dir, tmp_path):
    rows = tuple(
        StudyRow(name, name.upper(), study_dir, tested=name != 'teacher')
        for name in ('kd', 'alone', 'teacher', 'later')
    )
    study = Study(study_dir, 'S', rows, ('alone',), 'balanced_accuracy')
    found = gather([str(study_dir)], study)
    assert found.incomplete == ['later']
    table = comparison_section(found).blocks[0]
    assert [row[0] for row in table.rows] == ['KD', 'ALONE', 'TEACHER']
    outcome = read_outcomes(study, study_dir, range(2))[0]
    told = outcome.against['alone']
    place = table.header.index('against ALONE')
    text, value = table.rows[0][place]
    assert value == told.mean and text == format_difference(outcome, 'alone')
    assert 'left out: later' in comparison_section(found).basis


@pytest.fixture
def own_dir(study_dir, tmp_path):
    """A copy of the study, to write in."""
    shutil.copytree(study_dir, tmp_path / 'own')
    return tmp_path / 'own'


def test_a_work_dir_says_itself_what_it_is(own_dir):
    rows = tuple(
        StudyRow(name, name.upper(), own_dir, tested=name != 'teacher')
        for name in ('teacher', 'alone', 'dist', 'kd', 'later')
    )
    study = Study(own_dir, 'Hm', rows, ('alone',), roles=dict(distilled='dist'))
    write_plan(Plan(study, 2), own_dir)
    found = gather([str(own_dir)])
    assert [m.title for m in found.methods] == [
        'TEACHER',
        'ALONE',
        'DIST',
        'KD',
    ]
    assert (found.title, found.incomplete) == ('Hm', ['later'])
    assert found.baselines == ('alone',) and found.distilled.name == 'dist'
    # what is said on the command line wins
    found = gather([str(own_dir)], roles=dict(distilled='kd'), baselines=['kd'])
    assert found.baselines == ('kd',) and found.distilled.name == 'kd'
    assert set(found.methods[1].outcome.against) == {'kd'}
    with pytest.raises(UserError, match='--baseline later: finished are'):
        gather([str(own_dir)], baselines=['later'])
    # a seed that the plan has and the folder lacks: nothing is done with all
    write_plan(Plan(study, 3), own_dir)
    with pytest.raises(UserError, match='with all of its 3 seeds'):
        gather([str(own_dir)])
    write_plan(Plan(study, 1), own_dir)
    assert [len(m.folders) for m in gather([str(own_dir)]).methods] == [1] * 4
    # a teacher that all seeds share
    study = replace(study, rows=(replace(rows[0], seeds=1), *rows[1:]))
    write_plan(Plan(study, 2), own_dir)
    found = gather([str(own_dir)]).methods
    assert [len(m.folders) for m in found] == [1, 2, 2, 2]
    assert not found[0].outcome.against and found[3].outcome.against


def test_a_method_that_answers_one_class_is_marked(own_dir):
    section = comparison_section(gather([str(own_dir)]))
    assert 'ONE CLASS' not in section.basis
    path = own_dir / 'seed1/alone/test.json'
    figures = json.loads(path.read_text())
    figures |= {'predicted_classes': 1, 'mel/support': 9, 'nv/support': 3}
    path.write_text(json.dumps(figures))
    section = comparison_section(gather([str(own_dir)]))
    titles = [row[0] for row in section.blocks[0].rows]
    assert [title for title in titles if title.endswith(' *')] == ['alone *']
    assert 'every test image, alone in 1 of 2 runs.' in section.basis


def test_old_runs_are_no_methods_and_deeper_ones_are(own_dir):
    for seed in own_dir.glob('seed*'):
        shutil.copytree(seed / 'kd', seed / 'kd_stale1')
        shutil.copytree(seed / 'kd', seed / 'pair/kd')
        shutil.copytree(seed / 'teacher', seed / 'kd/teacher')
    names = [method.name for method in gather([str(own_dir)]).methods]
    assert names == ['alone', 'dist', 'kd', 'pair/kd', 'teacher']


def test_gains_are_drawn_with_their_chance(study_dir):
    found = gather([str(study_dir)], baselines=['alone'])
    table, chart = comparison_section(found).blocks
    assert chart.name == 'against-alone'
    points = [t for t in chart.figure.data if t.error_x.array]
    told = [m.outcome for m in found.methods if m.name != 'alone']
    assert [t.x[0] for t in points] == [o.against['alone'].mean for o in told]
    for trace, outcome in zip(points, told):
        gain = outcome.against['alone']
        assert trace.x[0] + trace.error_x.array[0] == pytest.approx(gain.high)
        assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(gain.low)
        filled = trace.marker.symbol == 'circle'
        assert filled == (outcome.adjusted['alone'] < 0.05)
    ticks = [t.x for t in chart.figure.data if not t.error_x.array]
    assert [list(x) for x in ticks] == [list(o.against['alone'].by_seed) for o in told]
    assert 'Ahead by more than chance: ' in chart.alt
    assert comparison_section(gather([str(study_dir)])).blocks[1:] == []


def test_the_verdict_names_every_method(study_dir):
    found = gather([str(study_dir)], baselines=['kd'])
    by_name = {method.name: method for method in found.methods}
    others = [by_name[name] for name in ('alone', 'dist', 'teacher')]
    for method, gain, p in zip(others, (0.1, -0.1, -0.1), (0.2, 0.01, 0.9)):
        outcome = method.outcome
        outcome.against['kd'] = outcome.against['kd']._replace(mean=gain)
        outcome.adjusted['kd'] = p
    assert verdict(by_name['kd'], others) == (
        'Behind by more than chance: dist. Not distinguishable from kd: alone, teacher.'
    )


def test_one_seed_is_told_as_one(study_dir):
    places = [f'{study_dir}/seed0/{name}' for name in ('alone', 'kd')]
    section = comparison_section(gather(places, baselines=['alone']))
    assert 'nothing is known of what another seed' in section.how
    both = comparison_section(gather([str(study_dir)], baselines=['alone']))
    assert 'another seed' not in both.how


def test_a_latency_of_one_seed_stands_for_the_row(own_dir):
    for name, value in (('alone', 2.0), ('teacher', 9.0)):
        path = own_dir / f'seed0/{name}/latency.json'
        path.write_text(f'{{"median_ms": {value}}}')
    charts = {
        chart.name: chart for chart in cost_section(gather([str(own_dir)])).charts
    }
    times = {t.x[0] for t in charts['cost-latency'].figure.data[:2]}
    assert times == {2.0, 9.0}


def test_runs_of_one_name_are_its_seeds(study_dir):
    places = [f'kd={study_dir}/seed{seed}/kd' for seed in range(2)]
    found = gather([*places, f'{study_dir}/seed0/alone'])
    assert [len(m.folders) for m in found.methods] == [2, 1]
    assert found.distilled.name == 'kd' and found.alone.name == 'alone'
    again = gather([*places[::-1], f'{study_dir}/seed0/alone'])
    assert [f.parent.name for f in again.methods[0].folders] == [
        'seed0',
        'seed1',
    ]
    with pytest.raises(UserError, match='seeds 0, 1 and alone with 0'):
        gather([*places, f'{study_dir}/seed0/alone'], baselines=['alone'])
    assert found.teacher is None


@pytest.mark.parametrize(
    ('places', 'words', 'said'),
    [
        (['{}/seed0'], {}, 'is no finished run'),
        (['{}'], dict(roles=dict(alone='x')), '--alone x: finished are '),
        (['kd={}/seed0/kd', 'kd={}/seed0/kd'], {}, 'kd: .* have one seed'),
        (['{}'], dict(positive='x'), '--positive x: the classes are bcc'),
    ],
)
def test_mistakes_are_told(study_dir, places, words, said):
    with pytest.raises(UserError, match=said):
        gather([place.format(study_dir) for place in places], **words)


def test_of_a_cross_validation_a_fold_is_reported(study_dir, tmp_path):
    shutil.copytree(study_dir, tmp_path / 'cv/fold0')
    with pytest.raises(UserError, match='give one of its folds, .*cv/fold0'):
        gather([str(tmp_path / 'cv')])
    assert len(gather([str(tmp_path / 'cv/fold0')]).methods) == 4


def test_other_images_are_refused(study_dir, tmp_path):
    place = tmp_path / 'run'
    shutil.copytree(study_dir / 'seed0/kd', place)
    path = place / 'predictions.csv'
    path.write_text(path.read_text().replace('t007', 't700'))
    with pytest.raises(UserError, match='is of other images or classes than'):
        gather([f'{study_dir}/seed0/alone', f'kd={place}'])
    path.write_text('sample_id,lesion_id,label,prediction\n1,,nv,nv\n')
    with pytest.raises(UserError, match='holds no predictions with scores'):
        gather([f'kd={place}'])


def test_validation_scores_are_never_of_test_images(study_dir, tmp_path):
    place = tmp_path / 'run'
    shutil.copytree(study_dir / 'seed0/kd', place)
    found = gather([f'kd={place}'])
    add_val_scores(found, False, print)
    assert found.methods[0].val_scores.shape == (1, 120, 3)
    shutil.copy(place / 'predictions.csv', place / 'predictions_val.csv')
    with pytest.raises(UserError, match='holds test images'):
        add_val_scores(found, False, print)


def test_where_no_lesion_is_known_none_is_claimed_to_be_apart(study_dir):
    found = gather([str(study_dir)])
    add_val_scores(found, False, print)
    known = leakage_section(found)
    assert 'none of the lesions that are known is on both' in known.how
    assert '240 images of 120 lesions' in facts(card_section(found))['Data']
    found.groups = list(found.sample_ids)
    for method in found.methods:
        method.val_groups = list(method.val_ids)
    section = leakage_section(found)
    assert 'on both sides' not in section.how
    assert 'Lesions unknown' in section.how
    told = facts(section)
    assert told['In val and test'] == '0 images, lesions unknown'
    assert told['Parts'] == (
        'val 120 images, lesions unknown, test 240 images, lesions unknown'
    )
    assert '240 images, lesions unknown; 2 seeds' in found.basis
    assert 'lesions unknown' in facts(card_section(found))['Data']
    assert 'bootstrap over images' in comparison_section(found).how


def test_leaks_are_told(study_dir, tmp_path):
    found = gather([str(study_dir)])
    add_val_scores(found, False, print)
    told = facts(leakage_section(found))
    assert told['Split'] == 'a' * 64 + ', the same for all runs'
    assert told['In val and test'] == '0 images, 0 lesions'
    assert 'not looked for' in told['Near duplicates']
    for method in found.methods:
        method.val_groups[0] = found.groups[0]
    found.methods[0].outcome.reports[0]['split_hash'] = 'b' * 64
    told = facts(leakage_section(found))
    assert told['In val and test'] == '0 images, 1 lesions - LEAK'
    assert told['Split'].startswith('DIFFERENT splits: ')
    report = tmp_path / 'verify.json'
    report.write_text('{"near_checked": true, "images": 9, '
                      '"near_leaks": [], "near_duplicates": [1]}')  # fmt: skip
    found.options['verify_report'] = str(report)
    said = facts(leakage_section(found))['Near duplicates']
    assert said.startswith('1 pairs of near') and ', 0 of them' in said
    report.write_text('{}')
    with pytest.raises(UserError, match='verify-report'):
        leakage_section(found)


def test_groups_are_counted_and_small_ones_marked(study_dir, tmp_path):
    found = gather([str(study_dir)])
    assert 'no metadata' in subgroups_section(found).left_out
    found.options['metadata'] = str(study_dir / 'metadata.csv')
    age, sex, site = subgroups_section(found).blocks
    # ages 20 + i // 4: 40 images below 30, 60 each to 44 and 59, 60 to 74,
    # 20 from 75
    assert [row[1][1] for row in age.rows] == [40, 60, 60, 60, 20]
    assert age.marked == set()
    assert [row[0] for row in sex.rows] == ['female', 'male']
    assert site.rows[1][0] == 'scalp (too small)' and site.marked == {1}
    kept = [i for i in range(240) if i % 2]
    labels = found.labels[kept]
    assert sex.rows[0][3] == (str((labels == 1).sum()), (labels == 1).sum())
    column = sex.header.index('accuracy, distilled')
    right = found.distilled.chosen[:, kept] == labels
    assert sex.rows[0][column][1] == pytest.approx(np.mean(right))
    found.options['metadata'] = str(study_dir / 'seed0/kd/test.json')
    with pytest.raises(UserError, match='test.json has no rows'):
        subgroups_section(found)
    (tmp_path / 'm.csv').write_text('name,age\na,3\n')
    found.options['metadata'] = str(tmp_path / 'm.csv')
    with pytest.raises(UserError, match='no column of image names'):
        subgroups_section(found)


def test_the_card_names_no_folder_of_the_machine(study_dir):
    told = facts(card_section(gather([str(study_dir)])))
    assert told['Command'] == 'python tools/train.py kd.py data_root=.../skin'
    assert 'No diagnostic device' in told['Intended use']
    assert 'torch 2.11.0' in told['Versions']
    assert '0.70 M parameters' in told['Model']


def test_parts_of_a_loss_are_means_over_the_seeds():
    first = [dict(train={'loss': 2.0, 'lr': 1.0}), dict(train={'loss': 1.0})]
    second = [dict(train={'loss': 4.0, 'distill.loss_kd': 3.0})]
    found = loss_parts([first, second])
    assert list(found) == ['loss', 'distill.loss_kd']
    assert found['loss'].tolist() == [3.0]
    assert np.isnan(found['distill.loss_kd']).all()
    diverged = loss_parts([[dict(train={'loss': 2.0}), dict(train={'loss': None})]])
    assert diverged['loss'][0] == 2 and np.isnan(diverged['loss'][1])


@pytest.mark.parametrize(
    ('text', 'band'),
    [
        ('0', '0 to 29'),
        ('29.0', '0 to 29'),
        ('30', '30 to 44'),
        ('75', '75 and over'),
        ('', 'unknown'),
        ('nan', 'unknown'),
        ('-1', 'unknown'),
    ],
)
def test_age_bands(text, band):
    assert age_band(text) == band


def test_shared_images_and_lesions_are_counted():
    parts = dict(train={'a': 'l1', 'b': 'l2'}, val={'c': 'l2'}, test={'a': 'l1'})
    assert shared(parts) == {
        'train and val': (0, 1),
        'train and test': (1, 1),
        'val and test': (0, 0),
    }
