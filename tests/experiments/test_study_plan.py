# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Study files: what they may say, and those that are shipped."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from hkd_mm.config import data_summary
from hkd_mm.config.cfg_options import parse_options, split_options
from hkd_mm.config.compose import compose_config, load_config
from hkd_mm.errors import UserError
from hkd_mm.experiments import outdated
from hkd_mm.experiments.outdated import StudyFingerprints
from hkd_mm.experiments.run_study import _choose, _read
from hkd_mm.experiments.study import (
    Run,
    all_runs,
    of_configs,
    read_study,
    share_options,
)

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / 'configs/studies').glob('*.py'))
GOOD = """
_common = {'max_epochs': 3}
title = 'two'
baselines = ['a']
rows = dict(
    t=dict(config='ham10000_64/resnet18.py', tested=False),
    a=dict(config='ham10000_64/mbv2.py', title='alone', options=_common),
    b=dict(
        config='ham10000_64/kd.py',
        after=['t'],
        options={'model.teacher_ckpt': '{runs}/t/student.pth'}))
"""


def read(tmp_path, text):
    (tmp_path / 's.py').write_text(text)
    return read_study(tmp_path / 's.py')


def test_a_study_is_read(tmp_path):
    study = read(tmp_path, GOOD)
    assert [row.name for row in study.rows] == ['t', 'a', 'b']
    assert [row.title for row in study.rows] == ['t', 'alone', 'b']
    assert [row.tested for row in study.rows] == [False, True, True]
    assert study.rows[2].after == ('t',)
    run = Run(study.rows[2], 4)
    assert run.folder(Path('/w')) == Path('/w/seed4/b')
    assert run.options(Path('/w')) == [
        'seed=4',
        'model.teacher_ckpt=/w/seed4/t/student.pth',
    ]


def test_places_and_seed_are_filled_in(tmp_path):
    study = read(tmp_path, GOOD.replace('{runs}/t', '{work_dir}/x{seed}'))
    assert Run(study.rows[2], 4).options(Path('/w'))[1] == (
        'model.teacher_ckpt=/w/x4/student.pth'
    )


def test_a_row_with_fewer_seeds_is_shared_by_the_others(tmp_path):
    text = GOOD.replace('{runs}/t', '{work_dir}/seed1/t')
    study = read(tmp_path, text.replace('tested=False', 'tested=False, seeds=2'))
    teacher, alone, student = study.rows
    assert (teacher.seeds, alone.seeds) == (2, None)
    runs = all_runs(study, range(4), 2)
    seeds = [[run.seed for run in runs if run.row is row] for row in study.rows]
    assert seeds == [[0, 0, 1, 1], *[[0, 0, 1, 1, 2, 2, 3, 3]] * 2]
    assert Run(student, 3, 1).built_on(study.rows) == [Run(teacher, 1, 1)]
    assert Run(student, 0).built_on(study.rows) == [Run(teacher, 0)]
    assert len(all_runs(study, range(1))) == 3
    places = [Run(student, 3, fold).options(Path('/w'))[1] for fold in (None, 1)]
    assert places == [
        'model.teacher_ckpt=/w/seed1/t/student.pth',
        'model.teacher_ckpt=/w/fold1/seed1/t/student.pth',
    ]


def test_options_of_the_study_hold_for_every_row(tmp_path):
    study = read(tmp_path, GOOD + 'options = dict(max_epochs=5, packed=True)')
    assert study.rows[1].options == dict(max_epochs=3, packed=True)
    assert study.rows[0].options == dict(max_epochs=5, packed=True)


@pytest.mark.parametrize(
    ('old', 'new', 'said'),
    [
        (
            "title='alone'",
            "name='alone'",
            r'rows.a.name is no known key; did you mean title\?',
        ),
        (
            "title = 'two'",
            'seeds = 3',
            's.py: seeds is no known key; did you mean sizes',
        ),
        ("after=['t']", "after=['x']", 'comes after x, which is no row'),
        ("after=['t']", "after=['b']", 'comes after b, which stands below'),
        ("baselines = ['a']", "baselines = ['x']", 'baseline x is no row'),
        ('ham10000_64/kd.py', 'kd.py', 'does not exist'),
        ("title = 'two'", "metrics = ['top2']", 'metrics.0: known are .*top5.*top2'),
        ("title = 'two'", "metrics = ['nv/f2']", 'metrics.0: known are .*f1'),
        (
            "title = 'two'",
            "compared_by = 'ece'",
            "compared_by: Input should be 'balanced_accuracy'",
        ),
        ("config='ham10000_64/kd.py',", '', 'rows.b: config: Field required'),
        ("title='alone'", 'seeds=0', 'rows.a: seeds: .* greater than or equal to 1'),
        ("title='alone'", "seeds='1'", 'rows.a: seeds: '),
        ('tested=False', 'seeds=2', r'seeds=2\); write {work_dir}/seed1/t/'),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, said):
    assert old in GOOD
    with pytest.raises(UserError, match=said):
        read(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('rows = []', 'rows: Input should be an object'),
        ('rows = {}', 'rows: .*at least 1'),
        ('rows = dict(a=3)', 'rows.a: Input should be an object, not 3'),
        ('rows = dict(a=dict(config=3))', 'rows.a: config: '),
        ("rows = dict(a=dict(config='ham10000_64'))", 'ham10000_64 does not exist'),
        (GOOD + "title = ['x']", 'title: .*string'),
        (GOOD + 'options = [1]', 'options: .*object'),
        (GOOD + "baselines = 'a'", 'baselines: .*array'),
        (GOOD + "roles = dict(taecher='t')", "roles.taecher.*: .*'teacher'"),
        (GOOD + 'sizes = dict(small=3)', 'sizes.small: '),
        (GOOD + "sizes = {'../s': {}}", 'sizes.../s.*: a name begins'),
        (GOOD + "rows['t'] = dict(rows['t'], options=[1])", 'rows.t: options: '),
        (GOOD + "rows['b'] = dict(rows['b'], after='t')", 'rows.b: after: .*array'),
        (GOOD + "rows['t'] = dict(rows['t'], tested='no')", 'rows.t: tested: '),
        (
            GOOD + "rows['t'] = dict(rows['t'], paper=dict(top1='x'))",
            'rows.t: paper.top1',
        ),
        (GOOD + "rows['t'] = dict(rows['t'], paper=dict(top1=float('nan')))", 'finite'),
        (GOOD + "rows['t'] = dict(rows['t'], conifg='x')", 'did you mean config'),
        (GOOD + 'metrics = []', 'metrics: .*at least 1'),
    ],
)
def test_values_of_another_kind_are_named(tmp_path, text, said):
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path, text)
    assert '\n' not in str(caught.value) and 's.py' in str(caught.value)


BAD_NAMES = ('', '.', '..', '../../x', '/x', 'a/../b', 'a//b', 'a/', 'a\\b', 'a\nb')
BAD_NAMES += ('a\0b', 'x' * 300, '-x', 'a=b', '\udcff')


@pytest.mark.parametrize('name', BAD_NAMES)
def test_rows_and_sizes_cannot_leave_their_folder(tmp_path, name):
    row = "dict(config='ham10000_64/mbv2.py')"
    for text in (f'rows = {{{name!r}: {row}}}', f'{GOOD}\nsizes = {{{name!r}: {{}}}}'):
        with pytest.raises(UserError) as caught:
            read(tmp_path, text)
        assert '\n' not in str(caught.value)


def test_a_row_may_lie_in_a_folder(tmp_path):
    row = "dict(config='ham10000_64/mbv2.py')"
    study = read(tmp_path, f"rows = {{'pair/kd': {row}, 'Läsion 2.1_x+y': {row}}}")
    assert [row.name for row in study.rows] == ['pair/kd', 'Läsion 2.1_x+y']
    with pytest.raises(UserError, match='names of the configs: 0: a name begins'):
        of_configs(['-x.py'])


def test_a_file_without_rows_is_no_study(tmp_path):
    with pytest.raises(UserError, match='rows: Field required'):
        read(tmp_path, "title = 'x'")


def test_configs_make_a_study():
    study = of_configs(['configs/kd_wrn50_mbv2.py', 'x/b.py'])
    assert [row.name for row in study.rows] == ['kd_wrn50_mbv2', 'b']
    assert study.baselines == ('kd_wrn50_mbv2',)
    with pytest.raises(UserError, match='two configs are called b'):
        of_configs(['x/b.py', 'y/b.py'])


def test_chosen_rows_bring_what_they_build_on(tmp_path):
    study = read(tmp_path, GOOD)
    chosen = _choose(study, ['b'])
    assert [row.name for row in chosen.rows] == ['t', 'b']
    assert chosen.baselines == ('a',)
    with pytest.raises(UserError, match='--rows x: .* has t, a, b'):
        _choose(study, ['x'])


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_every_config_of_a_shipped_study_takes_its_options(path, tmp_path):
    sizes = Config.fromfile(path).get('sizes') or {}
    done = set()
    for row in [r for s in (None, *sizes) for r in read_study(path, s).rows]:
        kind = (row.config, row.options.get('pair'), tuple(row.options))
        if kind in done:  # the same but for a number
            continue
        done.add(kind)
        options = Run(row, 0).options(tmp_path)
        cfg = load_config(row.config, options, read_data=False)
        given = parse_options(options)
        given.pop('pair', None)
        words, dotted = split_options(given, cfg)
        guide = {**words, **dotted}
        for key in ('seed', 'max_epochs', 'model.teacher_ckpt'):
            if key in guide:
                node = cfg
                for part in key.split('.'):
                    node = node[part]
                assert node == guide[key], (row.name, key)


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_every_run_of_a_shipped_study_has_a_fingerprint(path, tmp_path, monkeypatch):
    data = SimpleNamespace(split_hash='a')
    monkeypatch.setattr(outdated, 'compose_config', composed_once)
    monkeypatch.setattr(data_summary, 'summarize_data', lambda cfg, names: data)
    sizes = Config.fromfile(path).get('sizes') or {}
    for size in (None, *sizes):
        study = read_study(path, size)
        found = StudyFingerprints(study, [], tmp_path)
        runs = all_runs(study, range(2))
        assert len({found.of(run) for run in runs}) == len(runs)  # no two the same


@cache
def _composed(path, options):
    return load_config(path, list(options), read_data=False)


def composed_once(path, options=()):
    return _composed(path, tuple(options))


def test_a_row_of_papers_is_found_where_its_stage_looks():
    """What trains first lies beside: rows are called like those configs."""
    for name in ('s4_table2', 's4_table4', 's4_table6', 's4_table7'):
        study = read_study(ROOT / f'configs/studies/{name}.py')
        folders = {row.name for row in study.rows}
        for row in study.rows:
            cfg = composed(row.config, row.options.get('pair'))
            teacher = cfg.get('teacher_config')
            if not cfg.model.get('teacher') or not teacher:
                continue
            beside = Path(row.name).parent / Path(teacher).stem
            assert str(beside) in folders, row.name


@cache
def composed(config, pair):
    return compose_config(config, [f'pair={pair}'] if pair else [])


SIZES = """
options = dict(max_epochs=50)
sizes = dict(small=dict(
    options=dict(max_epochs=2),
    rows=dict(
        new=dict(config='ham10000_64/resnet18.py'),
        t=None,
        b=dict(config='ham10000_64/hybrid.py', after=['new']))))
"""


def test_a_size_replaces_adds_and_leaves_out(tmp_path):
    (tmp_path / 's.py').write_text(GOOD + SIZES)
    study = read_study(tmp_path / 's.py', 'small')
    assert [row.name for row in study.rows] == ['new', 'a', 'b']
    assert study.title == 'two (small)'
    new, a, b = study.rows
    assert new.options == dict(max_epochs=2)
    assert a.options == dict(max_epochs=3)  # its own option stays
    assert b.config.stem == 'hybrid' and b.after == ('new',)
    assert 'model.teacher_ckpt' in b.options
    whole = read_study(tmp_path / 's.py')
    assert whole.rows[0].options == dict(max_epochs=50)
    with pytest.raises(UserError, match='--size big: .* has small'):
        read_study(tmp_path / 's.py', 'big')


def test_a_size_may_have_columns_of_its_own(tmp_path):
    sized = SIZES.replace('options=dict(max_epochs=2),', "metrics=['nv/f1', 'top1'],")
    (tmp_path / 's.py').write_text(GOOD + sized + "metrics = ['MEL/f1']\n")
    assert read_study(tmp_path / 's.py').metrics == ('MEL/f1',)
    small = read_study(tmp_path / 's.py', 'small')
    assert small.metrics == ('nv/f1', 'top1')
    (tmp_path / 's.py').write_text(GOOD + SIZES + "metrics = ['MEL/f1']\n")
    assert read_study(tmp_path / 's.py', 'small').metrics == ('MEL/f1',)


def test_options_go_to_the_rows_that_have_a_place_for_them(tmp_path):
    configs = Path(__file__).resolve().parents[2] / 'configs'
    text = f"""
rows = dict(
    teacher=dict(config='{configs}/teachers/wrn50_skin.py', tested=False),
    alone=dict(config='{configs}/students/mbv2_skin.py'),
    kd=dict(config='{configs}/kd_wrn50_mbv2.py', after=['teacher']))
baselines = ['alone']
roles = dict(teacher='teacher')
"""
    given = ['teacher=resnet152', 'teacher_cache=False', 'batch_size=8']
    study, common = share_options(read(tmp_path, text), given)
    assert common == ['batch_size=8']
    assert {row.name: row.options for row in study.rows} == {
        'teacher': {'network': 'resnet152'},
        'alone': {},
        'kd': {'teacher': 'resnet152', 'teacher_cache': 'False'},
    }
    with pytest.raises(UserError, match='no "batchsize"'):
        share_options(study, ['batchsize=8'])


def test_a_quoted_pattern_names_configs(tmp_path):
    for name in ('b', 'a'):
        (tmp_path / f'{name}.py').write_text('')
    study = _read([str(tmp_path / '*.py')], None, ['b'])
    assert [row.name for row in study.rows] == ['a', 'b']
    with pytest.raises(UserError, match=r'x\*\.py is no file'):
        _read([str(tmp_path / 'x*.py')], None, None)


@pytest.mark.parametrize('name', ['é' * 200, 'a\nb', 'nowhere.py'])
def test_odd_names_of_configs_are_one_line(tmp_path, name):
    path = tmp_path / 'study.py'
    path.write_text(f'rows = dict(a=dict(config={name!r}))\n')
    with pytest.raises(UserError, match='does not exist') as caught:
        read_study(path)
    assert '\n' not in str(caught.value)
