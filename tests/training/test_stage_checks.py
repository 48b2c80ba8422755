# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A run that is there is used or resumed if its fingerprint is the same."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from processes import fork
from tiny import make_class_folders

from hkd_mm.config.compose import load_config
from hkd_mm.config.data_summary import summarize_data
from hkd_mm.io.locks import locked
from hkd_mm.training import previous_run as earlier_stage
from hkd_mm.training.fingerprint import RunFingerprint
from hkd_mm.training.run_notes import (
    STATE,
    read_begun,
    read_finished,
    update_state,
    write_begun,
)
from hkd_mm.training.stages import provide_teacher
from hkd_mm.training.trainer import train

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def teacher_of(tiny_configs, tmp_path):
    """``provide_teacher`` with a stand-in for training.

    Returns where the teacher is and how each training began.
    """
    calls = []

    def train(path, work_dir, resume, cfg_options, **_):
        calls.append(resume)
        cfg = load_config(path, cfg_options)
        summary = summarize_data(cfg)
        finished = dict(
            checkpoint='best.pth',
            classes=list(summary.classes),
            split_hash=summary.split_hash,
            fingerprint=RunFingerprint.of(cfg, summary).parts,
        )
        Path(work_dir, 'best.pth').write_text(f'{len(calls)}')
        update_state(work_dir, result=finished)
        return finished

    def provide(*options):
        cfg = load_config(tiny_configs['kd'], list(options))
        cfg.work_dir = str(tmp_path / 'runs' / 'kd')
        return provide_teacher(
            cfg, summarize_data(cfg), train, cfg_options=list(options)
        ), calls

    return provide


@pytest.fixture
def place(tmp_path):
    """Where the teacher goes if nothing else is there."""
    return tmp_path / 'runs' / 'tiny_teacher'


def incomplete_marker(folder, fingerprint=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'epoch_1.pth').write_bytes(b'half a file')
    if fingerprint is not None:
        write_begun(str(folder), fingerprint)


def wanted(tiny_configs, *options):
    cfg = load_config(tiny_configs['teacher'], list(options))
    return RunFingerprint.of(cfg, summarize_data(cfg))


def test_teacher_is_trained_once_and_used_again(teacher_of, place, capsys):
    path, calls = teacher_of()
    assert path == str(place / 'best.pth')
    again, calls = teacher_of()
    assert again == path and calls == [None]
    assert f'using the one trained before, {path} (same data and settings' in (
        capsys.readouterr().out
    )


def test_what_only_the_student_has_makes_no_other_teacher(teacher_of):
    options = [
        'model.distiller.distill_losses.loss_hybrid.tau=2.0',
        'max_epochs=1',
    ]
    assert teacher_of(*options)[1] == [None]
    options[0] = 'model.distiller.distill_losses.loss_hybrid.tau=8.0'
    options += ['train_dataloader.num_workers=2', 'device=cpu']
    assert teacher_of(*options)[1] == [None]


@pytest.mark.parametrize(
    'option, said',
    [
        ('split_seed=7', 'split (images, labels or parts) '),
        ('max_epochs=5', 'max_epochs 5 here, 2 there'),
        ('batch_size=3', 'batch size of all processes 3 here, 6 there'),
        ('sampler=balanced', 'sampler.type hkd_mm.BalancedSampler here'),
        ('input_size=12', 'input size 12 here, 16 there'),
        ('seed=7', 'seed 7 here, 42 there'),
        ('class_weight=[1.0,1.0,2.0]', 'model.head.loss.class_weight [1.0'),
    ],
)
def test_another_teacher_gets_a_folder_of_its_own(
    option, said, teacher_of, place, capsys
):
    first, _ = teacher_of()
    before = files_of(place)
    capsys.readouterr()
    second, calls = teacher_of(option)
    line = capsys.readouterr().out
    assert f'TEACHER: the one in {place} is not taken: {said}' in line
    assert f'--cfg-options model.teacher_ckpt={first}' in line
    folder = Path(second).parent
    assert folder.name.startswith('tiny_teacher-') and calls == [None, None]
    assert files_of(place) == before
    # both are there for whoever wants them
    assert teacher_of(option)[0] == second
    assert teacher_of() == (first, [None, None])


def files_of(folder):
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name != 'lock'
    }


def test_other_data_is_another_teacher(teacher_of, place, tmp_path):
    first, _ = teacher_of()
    more = make_class_folders(tmp_path / 'more', per_class=16)
    large = make_class_folders(tmp_path / 'large', size=32)
    found = [first]
    for root in (more, large):  # the second: other files of the same names
        found.append(teacher_of(f'data_root={root}')[0])
    assert len(set(found)) == 3
    again = [teacher_of(f'data_root={root}')[0] for root in (more, large)]
    assert [teacher_of()[0], *again] == found


def test_a_teacher_of_other_packed_images_is_another(teacher_of):
    packed = ['packed=True', 'packed.hair_removal=True']
    first, _ = teacher_of(*packed)
    assert teacher_of(*packed) == (first, [None])
    assert teacher_of('packed=True')[0] != first


def test_it_is_found_whatever_its_folder_is_called(teacher_of, place, capsys):
    teacher_of()
    other = place.rename(place.with_name('my_teacher'))
    assert teacher_of() == (str(other / 'best.pth'), [None])
    # moved there when a new run took its folder
    aside = other / 'previous_1'
    aside.mkdir()
    for path in other.glob('*.*'):
        path.rename(aside / path.name)
    assert teacher_of() == (str(aside / 'best.pth'), [None])
    # a study trains it again, and keeps it
    other.rename(other.with_name('my_teacher_stale1'))
    assert teacher_of() == (str(place / 'best.pth'), [None, None])


def test_an_unfinished_one_is_resumed_by_who_needs_the_same(
    teacher_of, place, tiny_configs, capsys
):
    incomplete_marker(place, wanted(tiny_configs))
    other, calls = teacher_of('batch_size=3')
    assert Path(other).parent != place and calls == [None]
    assert files_of(place)['epoch_1.pth'] == b'half a file'
    said = f'the one in {place} is not taken: batch size of all processes 3 '
    assert said in capsys.readouterr().out
    assert teacher_of() == (str(place / 'best.pth'), [None, 'auto'])


def test_one_that_was_taken_but_not_begun_is_trained(teacher_of, place, tiny_configs):
    place.mkdir(parents=True)
    write_begun(str(place), wanted(tiny_configs))
    assert teacher_of() == (str(place / 'best.pth'), [None])


def test_half_precision_does_not_hinder_going_on(teacher_of, place, tiny_configs):
    cfg = load_config(tiny_configs['teacher'])
    cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16')
    incomplete_marker(place, RunFingerprint.of(cfg, summarize_data(cfg)))
    assert teacher_of()[1] == ['auto']


@pytest.mark.parametrize('note', [None, '{"model":', '{"batch_size": 6}'])
def test_what_nobody_knows_the_settings_of_is_left_alone(
    note, teacher_of, place, capsys
):
    incomplete_marker(place)
    if note is not None:
        (place / STATE).write_text(note)
    before = files_of(place)
    path, calls = teacher_of()
    assert Path(path).parent != place and calls == [None]
    assert files_of(place) == before
    said = 'it has no fingerprint that this version can compare'
    assert said in capsys.readouterr().out


def test_a_student_does_not_take_its_own_folder(teacher_of, tiny_configs, tmp_path):
    teacher = tiny_configs['teacher'].rename(tmp_path / 'kd.py')
    path, _ = teacher_of(f'teacher_config={teacher}')
    assert Path(path).parent.name.startswith('kd-')


def test_a_folder_that_another_run_has_is_not_waited_for(
    teacher_of, place, tiny_configs, monkeypatch
):
    """The other run is under way: only its fingerprint is looked at."""
    monkeypatch.setattr(earlier_stage, 'MOMENT', 0.2)
    code = (
        'import sys; from pathlib import Path\n'
        'from hkd_mm.io.locks import locked\n'
        'with locked(Path(sys.argv[1])):\n'
        "    print('held', flush=True); sys.stdin.readline()"
    )
    incomplete_marker(place, wanted(tiny_configs, 'batch_size=3'))
    with subprocess.Popen(
        [sys.executable, '-c', code, str(place)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == 'held\n'
        path, calls = teacher_of()
        # and one that has not said yet what it is: for a moment
        (place / STATE).unlink()
        (place / 'epoch_1.pth').unlink()
        shutil.rmtree(Path(path).parent)
        again, calls = teacher_of()
        other.communicate('\n')
    assert again == path and calls == [None, None]
    assert Path(path).parent.name.startswith('tiny_teacher-')


def test_a_training_leaves_what_is_looked_for(
    teacher_of, tiny_configs, place, quick_runner
):
    """With the files of a real training, finished and broken off."""
    own = str(tiny_configs['teacher'])
    options = ['max_epochs=1', 'train_dataloader.num_workers=0']
    finished = train(own, work_dir=str(place), cfg_options=options)
    expected = str(place / finished['checkpoint'])
    assert teacher_of('max_epochs=1') == (expected, [])
    assert read_begun(place) == wanted(tiny_configs, 'max_epochs=1')
    update_state(place, result=None)
    assert teacher_of('max_epochs=1', 'batch_size=3')[1] == [None]
    assert teacher_of('max_epochs=1')[1] == [None, 'auto']


def test_a_training_gone_on_with_otherwise_stands_for_no_other(
    teacher_of, tiny_configs, place, quick_runner
):
    from tiny import forget_runs

    own = str(tiny_configs['teacher'])
    train(own, work_dir=str(place), cfg_options=['max_epochs=1'])
    forget_runs()
    train(own, str(place), resume='auto', cfg_options=['max_epochs=2'])
    path, calls = teacher_of()  # two epochs, too
    assert Path(path).parent != place and calls == [None]


def test_students_started_at_once_share_a_teacher_of_the_same_data_only(
    tiny_configs, tmp_path, quick_runner, capfd
):
    """Three real trainings: two on one data root, one on another."""
    config, options = str(tiny_configs['kd']), ['max_epochs=1']

    def begin(name):
        train(config, f'runs/{name}', cfg_options=options)

    started = {
        name: fork(partial(begin, name), tmp_path / f'{name}.txt')
        for name in ('a', 'b')
    }
    more = make_class_folders(tmp_path / 'more', per_class=16)
    train(config, 'runs/c', cfg_options=[*options, f'data_root={more}'])
    said = dict(c=capfd.readouterr().out)
    for name, process in started.items():
        process.join(500)
        said[name] = (tmp_path / f'{name}.txt').read_text()
        assert process.exitcode == 0, said[name]
    trained = {name for name in said if 'TEACHER: done' in said[name]}
    assert 'c' in trained and len(trained) == 2
    (other,) = {'a', 'b'} - trained
    assert 'TEACHER: using the one trained before' in said[other]
    runs = tmp_path / 'runs'
    teachers = sorted(path.name for path in runs.glob('tiny_teacher*'))
    assert len(teachers) == 2 and teachers[0] == 'tiny_teacher'
    hashes = {read_finished(runs / name)['split_hash'] for name in teachers}
    assert len(hashes) == 2
    for name in said:
        own = read_finished(runs / name)
        (stage,) = json.loads((runs / name / STATE).read_text())['stages']
        teacher = read_finished(tmp_path / stage)
        assert teacher['split_hash'] == own['split_hash']


def test_a_folder_is_free_again_when_its_holder_has_ended(place, teacher_of):
    with locked(place):
        pass
    assert teacher_of() == (str(place / 'best.pth'), [None])
