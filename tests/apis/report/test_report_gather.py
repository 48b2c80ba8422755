# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From run folders to what a report is made of."""

import shutil

import numpy as np
import pytest

from hkd_mm.apis.report.comparison import comparison
from hkd_mm.apis.report.gather import gather
from hkd_mm.apis.report.leakage import leakage
from hkd_mm.apis.report.model_card import model_card
from hkd_mm.apis.report.subgroups import subgroups
from hkd_mm.apis.report.val_predictions import add_val_scores
from hkd_mm.apis.study.outcome import read_outcomes
from hkd_mm.apis.study.plan import Row, Study
from hkd_mm.errors import UserError


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
        Row(name, name.upper(), study_dir, tested=name != 'teacher')
        for name in ('kd', 'alone', 'teacher', 'later')
    )
    study = Study(study_dir, 'S', rows, ('alone',), 'balanced_accuracy')
    found = gather([str(study_dir)], study)
    assert found.unfinished == ['later']
    table = comparison(found).blocks[0]
    assert [row[0] for row in table.rows] == ['KD', 'ALONE', 'TEACHER']
    outcome = read_outcomes(study, study_dir, range(2))[0]
    told = outcome.against['alone']
    place = table.header.index('against ALONE')
    text, value = table.rows[0][place]
    assert value == told.mean and f'p {outcome.adjusted["alone"]:.3f}' in text
    assert 'left out: later' in comparison(found).basis


def test_runs_of_one_name_are_its_seeds(study_dir):
    places = [f'kd={study_dir}/seed{seed}/kd' for seed in range(2)]
    found = gather([*places, f'{study_dir}/seed0/alone'])
    assert [len(m.folders) for m in found.methods] == [2, 1]
    assert found.distilled.name == 'kd' and found.alone.name == 'alone'
    assert found.teacher is None


@pytest.mark.parametrize(
    ('places', 'words', 'said'),
    [
        (['{}/seed0'], {}, 'is no finished run'),
        (['{}'], dict(roles=dict(alone='x')), '--alone x: finished are '),
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
    with pytest.raises(UserError, match='tested on other images'):
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


def test_leaks_are_told(study_dir, tmp_path):
    found = gather([str(study_dir)])
    add_val_scores(found, False, print)
    told = facts(leakage(found))
    assert told['Split'] == 'a' * 64 + ', the same for all runs'
    assert told['In val and test'] == '0 images, 0 lesions'
    assert 'not looked for' in told['Near duplicates']
    for method in found.methods:
        method.val_groups[0] = found.groups[0]
    found.methods[0].outcome.reports[0]['split_hash'] = 'b' * 64
    told = facts(leakage(found))
    assert told['In val and test'] == '0 images, 1 lesions - LEAK'
    assert told['Split'].startswith('DIFFERENT splits: ')
    report = tmp_path / 'verify.json'
    report.write_text('{"near_checked": true, "images": 9, '
                      '"near_leaks": [], "near_duplicates": [1]}')  # fmt: skip
    found.options['verify_report'] = str(report)
    said = facts(leakage(found))['Near duplicates']
    assert said.startswith('1 pairs of near') and ', 0 of them' in said
    report.write_text('{}')
    with pytest.raises(UserError, match='verify-report'):
        leakage(found)


def test_groups_are_counted_and_small_ones_marked(study_dir):
    found = gather([str(study_dir)])
    assert 'no metadata' in subgroups(found).left_out
    found.options['metadata'] = str(study_dir / 'metadata.csv')
    age, sex, site = subgroups(found).blocks
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
    with pytest.raises(UserError, match='no column of image names'):
        subgroups(found)


def test_the_card_names_no_folder_of_the_machine(study_dir):
    told = facts(model_card(gather([str(study_dir)])))
    assert told['Command'] == 'python tools/train.py kd.py data_root=.../skin'
    assert 'No diagnostic device' in told['Intended use']
    assert 'torch 2.11.0' in told['Versions']
    assert '0.70 M parameters' in told['Model']
