# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""tools/latency.py: networks timed in turns, in processes of their own."""

import json
from pathlib import Path

import numpy as np
import pytest
from exported import CLASSES, export_tiny, write_tiny_manifest
from processes import die

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import file_spec
from hkd_mm.inference.student import named
from hkd_mm.io.files import sha256
from hkd_mm.io.progress import Progress
from hkd_mm.serve import latency_rounds as module
from hkd_mm.serve.latency import (
    Subject,
    _write_reports,
    baselines,
    read_subject,
    rows_of,
)
from hkd_mm.serve.latency_rounds import RUNTIMES, Job, Timing, measure


def timing(network, runtime, *times, batch=1):
    job = Job(network, runtime, 'x', batch, 1, (8, 8))
    return Timing(job, [list(one) for one in times], memory=5)


def test_ratios_are_of_rounds_and_not_of_sums():
    # The machine is ten times slower in the second round: the ratio stays 4.
    teacher = timing('t', 'eager', (4.0, 4.0, 8.0), (40.0, 40.0), (4.0, 4.0))
    student = timing('s', 'int8', (1.0, 1.0, 1.0), (10.0, 10.0), (1.0, 1.0))
    assert student.times_faster(teacher) == 4
    subject = Subject('t', (8, 8))
    row, other = rows_of([teacher, student], dict(t=subject, s=subject))
    assert other['median_ms'] == 1000 and other['calls'] == 7
    assert other['times_faster'] == 4
    assert row['p99_ms'] == pytest.approx(40_000)


def test_a_setting_is_compared_with_the_first_network_in_it(tmp_path):
    class Nothing:
        def bytes(self, runtime):
            return 7

    found = [
        timing('t', 'eager', (4.0,)),
        timing('s', 'onnx', (1.0,)),
        timing('t', 'eager', (9.0,), batch=32),
        timing('s', 'onnx', (3.0,), batch=32),
    ]
    found.append(timing('s', 'compiled', batch=32))
    found[-1].error = 'no compiler'
    rows = rows_of(found, {'t': Nothing(), 's': Nothing()})
    assert [row.get('times_faster') for row in rows] == [1, 4, 1, 3, None]
    assert rows[3]['baseline'] == ['t', 'eager']
    assert rows[4]['error'] == 'no compiler'
    assert rows[1]['median_ms'] == 1000 and rows[1]['file_bytes'] == 7


def test_the_report_is_left_the_smallest_setting(tmp_path):
    rows = [
        dict(network='s', runtime='eager', batch=1, threads=1, median_ms=3.0),
        dict(network='s', runtime='onnx', batch=1, threads=2, median_ms=1.0),
        dict(network='s', runtime='onnx', batch=1, threads=1, median_ms=2.0),
        dict(network='t', runtime='onnx', batch=1, threads=1, median_ms=9.0),
    ]
    subject = Subject('s', (8, 8), folder=tmp_path)
    _write_reports(rows, [subject], print)
    told = json.loads((tmp_path / 'latency.json').read_text())
    assert told['median_ms'] == 2.0


def exported_run(folder: Path) -> Path:
    """A work dir with weights, and an export that was made of them."""
    pytest.importorskip('onnx')
    folder.mkdir()
    weights = folder / 'student.pth'
    weights.write_bytes(b'weights')
    export_tiny(folder / 'export')
    names = dict(fp32='student.onnx', int8='student_int8.onnx')
    write_tiny_manifest(
        folder / 'export',
        CLASSES,
        0.6,
        source=dict(run='first', weights_sha256=sha256(weights)),
        **{
            kind: file_spec(folder / 'export' / name, 'tensor', 'logits')
            for kind, name in names.items()
        },
    )
    return folder


@pytest.mark.parametrize('name', ['first', 'renamed', 'lr=0.1'])
def test_a_run_is_known_by_its_weights_and_not_by_its_name(tmp_path, name):
    place = exported_run(tmp_path / name)
    found = read_subject(f'teacher={place}')
    assert found.name == 'teacher' and found.torch == place / 'student.pth'
    assert found.folder == place and found.missing(RUNTIMES) is None


def test_an_export_of_other_weights_has_no_torch_and_says_so(tmp_path):
    place = exported_run(tmp_path / 'first')
    (place / 'student.pth').write_bytes(b'trained again')
    found = read_subject(f'teacher={place}')
    assert found.torch is None and found.folder is None
    told = found.missing(RUNTIMES)
    assert told.startswith('teacher: no eager, compiled, for ')
    assert 'export the run again' in told
    (place / 'student.pth').unlink()
    told = read_subject(str(place / 'export')).missing(['eager', 'onnx'])
    assert told.startswith('tiny: no eager, for there is no student.pth')


def test_paths_may_have_an_equals_sign(tmp_path, monkeypatch):
    place = exported_run(tmp_path / 'lr=0.1')
    monkeypatch.chdir(tmp_path)
    assert read_subject('lr=0.1').folder == place
    assert read_subject('s=lr=0.1').name == 's'
    assert named('a=b=c') == ('a', 'b=c') and named('lr=0.1')[0] == ''


def test_what_times_faster_is_against_is_told():
    def row(network, runtime, batch, baseline):
        return dict(
            network=network,
            runtime=runtime,
            batch=batch,
            threads=1,
            baseline=baseline,
        )

    rows = [
        row('t', 'eager', 1, ['t', 'eager']),
        row('s', 'onnx', 1, ['t', 'eager']),
        dict(network='t', runtime='eager', batch=32, threads=1, error='memory'),
        row('s', 'onnx', 32, ['s', 'onnx']),
    ]
    assert list(baselines(rows[:2], ('t', 'eager'))) == [
        'times faster: than t in eager'
    ]
    lines = list(baselines(rows, ('t', 'eager')))
    assert lines[1] == (
        'times faster: than s in onnx (batch 32, threads 1), for t in eager '
        'was not timed'
    )


def test_a_network_without_torch_is_told_on_the_command_line(
    tmp_path, tool, capsys, in_tmp
):
    pytest.importorskip('onnxruntime')
    place = exported_run(tmp_path / 'first')
    (place / 'student.pth').write_bytes(b'trained again')
    argv = [f't={place}', '--batch', '1', '--threads', '1', '--rounds', '1']
    argv += ['--seconds', '0', '--for-report']
    assert tool('latency')([*argv, '--runtimes', 'eager', 'int8']) == 0
    told = capsys.readouterr().out
    assert 't: no eager, for' in told and 't: no latency.json, for' in told
    assert 'than t in int8, for t in eager was not timed' in told
    assert not (place / 'latency.json').exists()
    assert tool('latency')([*argv, '--runtimes', 'eager']) == 2
    assert 'nothing to time in eager' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('nowhere', 'nowhere is no network to time'),
        ('x=nowhere.py', 'nowhere.py is no file'),
    ],
)
def test_what_is_no_network_is_named(in_tmp, text, said):
    with pytest.raises(UserError, match=said):
        read_subject(text)


def test_a_worker_that_cannot_begin_is_told_and_left_out(tmp_path):
    said = []
    job = Job('s', 'onnx', str(tmp_path / 'absent.onnx'), 1, 1, (8, 8))
    with Progress('timing', 2, 'turns') as progress:
        [found] = measure([job], 2, 0, 1, said.append, progress)
    assert progress.done == progress.total == 2
    assert 'absent.onnx' in found.error and found.rounds == []
    assert len(said) == 1 and 's, onnx' in said[0]


def test_a_worker_that_dies_is_named(monkeypatch):
    monkeypatch.setattr(module, 'work', die)
    job = Job('big', 'onnx', 'x', 32, 1, (8, 8))
    with (
        Progress('timing', 1, 'turns') as progress,
        pytest.raises(UserError, match='big, onnx: its process ended with'),
    ):
        measure([job], 1, 0, 1, print, progress)


def test_two_networks_need_two_names(tiny_configs, tool, capsys):
    path = str(tiny_configs['student'])
    assert tool('latency')([path, path]) == 2
    assert 'two networks are called tiny_student' in capsys.readouterr().err


@pytest.mark.parametrize('out', ['nowhere/a.json', '.', 'file/a.json'])
def test_a_place_for_the_figures_is_looked_up_first(in_tmp, tool, capsys, out):
    (in_tmp / 'file').touch()
    assert tool('latency')(['nowhere', '--out', out]) == 2
    told = capsys.readouterr().err
    assert told == f'error: --out {out}: give a file in a folder that is there\n'


def test_a_config_without_a_size_is_told(in_tmp):
    (in_tmp / 'a.py').write_text('model = dict(type="ImageClassifier")\n')
    with pytest.raises(UserError, match='a.py') as error:
        read_subject('a.py')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'argv',
    [
        ['x', '--batch', '0'],
        ['x', '--rounds', '0'],
        ['x', '--seconds', 'nan'],
        ['x', '--seconds', 'inf'],
        ['x', '--threads', '100000'],
        ['x', '--batch', '1', '1000000000'],
    ],
)
def test_settings_are_checked(tool, argv):
    with pytest.raises(SystemExit):
        tool('latency')(argv)


def test_a_network_is_timed_in_torch_and_in_onnx(tiny_configs, tool, capsys):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    argv = [f'small={tiny_configs["student"]}', '--out', 'latency.json']
    argv += ['--runtimes', 'eager', 'onnx', 'int8', '--batch', '2']
    argv += ['--threads', '1', '--rounds', '2', '--seconds', '0']
    assert tool('latency')(argv) == 0
    told = json.loads(Path('latency.json').read_text())
    rows = {row['runtime']: row for row in told['rows']}
    assert set(rows) == {'eager', 'onnx', 'int8'}
    for row in rows.values():
        assert 0 < row['median_ms'] <= row['p99_ms'] and row['calls'] == 4
        assert np.isfinite(row['times_faster'])
    assert rows['eager']['times_faster'] == 1
    # a program without torch is smaller
    assert rows['onnx']['peak_bytes'] < rows['eager']['peak_bytes'] / 2
    assert rows['onnx']['file_bytes'] > 0 < rows['int8']['file_bytes']
    machine = told['machine']
    assert machine['cpu_cores'] and {'torch', 'onnxruntime'} <= set(machine['packages'])
    assert 'times faster: than small in eager' in capsys.readouterr().out
