# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A work dir says what it is made of."""

import json
from pathlib import Path

import pytest

from hkd_mm.errors import UserError
from hkd_mm.experiments.study import (
    PLAN,
    Plan,
    Study,
    StudyRow,
    read_plan,
    read_study,
    write_plan,
)

STUDIES = sorted((Path(__file__).parents[2] / 'configs/studies').glob('*.py'))


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_every_study_comes_back_as_it_was(path, tmp_path):
    for size in (None, *(['small'] if 'sizes =' in path.read_text() else [])):
        plan = Plan(read_study(path, size), 3)
        write_plan(plan, tmp_path)
        assert read_plan(tmp_path) == plan
        (tmp_path / 'fold0').mkdir(exist_ok=True)
        assert read_plan(tmp_path / 'fold0') == plan


def test_paths_of_any_bytes_are_kept_readable(tmp_path):
    name = b'/x/caf\xe9.py'.decode(errors='surrogateescape')
    rows = (StudyRow('a', 'a', Path(name)),)
    write_plan(Plan(Study(Path(name), 'S', rows, ()), 1), tmp_path)
    found = read_plan(tmp_path).study
    assert str(found.path) == str(found.rows[0].config) == '/x/caf\\udce9.py'


def test_none_is_none_and_a_damaged_one_is_told(tmp_path):
    assert read_plan(tmp_path) is None
    row = dict(name='../x', title='x', config='x.py')
    study = dict(path='s.py', title='s', rows=[row], baselines=[])
    for text in (
        *(
            '{',
            '{}',
            '[' * 10**6,
            'null',
            json.dumps(dict(study=dict(rows=[{}]), seeds=1)),
        ),
        json.dumps(dict(study=study, seeds=1)),
        json.dumps(dict(study=dict(study, rows=[dict(row, name='x')]), seeds='1')),
    ):
        (tmp_path / PLAN).write_text(text)
        with pytest.raises(UserError, match=f'{PLAN}: .* writes it again'):
            read_plan(tmp_path)
