# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Runs of another config, split or code are seen, and kept or done again."""

from dataclasses import replace
from pathlib import Path

import pytest

from hkd_mm.errors import UserError
from hkd_mm.experiments import outdated
from hkd_mm.experiments.outdated import (
    StudyFingerprints,
    changed,
    code_hash,
    handle_outdated,
    write_fingerprint,
)
from hkd_mm.experiments.study import Run, Study, StudyRow


def study_of(configs, **options):
    teacher = StudyRow('t', 't', Path(configs['teacher']), tested=False)
    kd = StudyRow('kd', 'kd', Path(configs['kd']), options, ('t',))
    return Study(Path('s.py'), 's', (teacher, kd), (), 'top1')


def fingerprint(configs, options=(), seed=0, **of_row):
    study = study_of(configs, **of_row)
    return StudyFingerprints(study, list(options), Path('.')).of(
        Run(study.rows[1], seed)
    )


def test_the_fingerprint_follows_what_decides(tiny_configs):
    first = fingerprint(tiny_configs)
    assert first == fingerprint(tiny_configs) and first.split
    assert first != fingerprint(tiny_configs, seed=1)
    assert first.config != fingerprint(tiny_configs, max_epochs=7).config
    assert first.config != fingerprint(tiny_configs, ['max_epochs=7']).config
    drawn = fingerprint(tiny_configs, ['split_seed=5'])
    assert drawn.split != first.split


def test_another_teacher_makes_another_student(tiny_configs):
    first = fingerprint(tiny_configs)
    path = Path(tiny_configs['teacher'])
    path.write_text(path.read_text() + '\nrandomness = dict(seed=1234)\nseed = 1234\n')
    other = fingerprint(tiny_configs)
    assert other.config != first.config


def test_a_shared_teacher_counts_once_for_all_seeds(tiny_configs):
    def of(seed, shared):
        study = study_of(tiny_configs)
        teacher = replace(study.rows[0], options=dict(max_epochs='{seed}5'))
        if shared:
            teacher = replace(teacher, seeds=1)
        study = replace(study, rows=(teacher, study.rows[1]))
        found = StudyFingerprints(study, [], Path('.'))
        return found.of(Run(study.rows[1], seed))

    assert of(0, True) == of(0, False)
    assert of(1, True) != of(1, False)  # it learns of another network


def test_the_place_of_the_images_decides_nothing(tiny_configs, tmp_path):
    from mmengine.config import Config

    root = Path(Config.fromfile(tiny_configs['kd']).data_root)
    moved = tmp_path / 'moved'
    moved.symlink_to(root.resolve())
    other = fingerprint(tiny_configs, [f'data_root={moved}'])
    assert other == fingerprint(tiny_configs, [f'data_root={root}'])


def test_code_is_every_module_that_a_run_may_use(tmp_path, monkeypatch):
    package = tmp_path / 'p'
    for name in ('experiments', 'training'):
        (package / name).mkdir(parents=True)
        (package / name / 'a.py').write_text('1')
    monkeypatch.setattr(outdated, '_PACKAGE', package)
    first = code_hash()
    (package / 'experiments/a.py').write_text('2')
    (package / 'report').mkdir()
    (package / 'report/b.py').write_text('1')
    assert code_hash() == first
    for name in ('training/a.py', 'training/b.py', 'cli.py'):
        before = code_hash()
        (package / name).write_text('2')
        assert code_hash() != before


def test_what_is_left_out_of_the_code_is_there():
    root = Path(outdated.__file__).parents[1]
    for name in outdated._NOT_OF_RUNS:
        assert (root / name / '__init__.py').is_file()


class TestOutdated:
    @pytest.fixture
    def place(self, tiny_configs, tmp_path):
        """A finished run of each row, trained as the study says."""
        study = study_of(tiny_configs)
        fingerprints = StudyFingerprints(study, [], tmp_path)
        runs = [Run(row, 0) for row in study.rows]
        for run in runs:
            folder = run.folder(tmp_path)
            folder.mkdir(parents=True)
            (folder / 'metrics.json').write_text('{}')
            write_fingerprint(folder, fingerprints.of(run))
        return runs, fingerprints, tmp_path

    def test_what_is_wanted_is_left_alone(self, place):
        assert handle_outdated(*place, 'refuse') == {}

    def test_another_origin_is_refused_kept_or_done_again(self, place):
        runs, fingerprints, folder = place
        mine = runs[1].folder(folder)
        write_fingerprint(mine, replace_code(fingerprints.of(runs[1])))
        assert changed(mine, fingerprints.of(runs[1])) == ['code']
        with pytest.raises(UserError, match='code: kd seed 0; --outdated keep'):
            handle_outdated(*place, 'refuse')
        assert handle_outdated(*place, 'keep') == {'kd seed 0': ['code']}
        assert (mine / 'metrics.json').exists()
        assert handle_outdated(*place, 'redo') == {}
        assert not mine.exists()
        assert (folder / 'seed0/kd_stale1/metrics.json').exists()
        mine.mkdir()  # begun again, and outdated again: nothing is overwritten
        (mine / 'epoch_1.pth').touch()
        handle_outdated(*place, 'redo')
        assert (folder / 'seed0/kd_stale2/epoch_1.pth').exists()

    def test_a_run_of_unknown_origin_is_told(self, place):
        runs, fingerprints, folder = place
        (runs[0].folder(folder) / 'study.json').unlink()
        with pytest.raises(UserError, match='origin: t seed 0'):
            handle_outdated(*place, 'refuse')


def replace_code(given):
    return given._replace(code='other')


def test_rows_that_were_never_begun_are_not_outdated(tiny_configs, tmp_path):
    study = study_of(tiny_configs)
    run = Run(replace(study.rows[1], options={}), 0)
    run.folder(tmp_path).mkdir(parents=True)
    assert (
        handle_outdated(
            [run], StudyFingerprints(study, [], tmp_path), tmp_path, 'refuse'
        )
        == {}
    )
