# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A teacher that lies there is used, resumed or refused."""

import json
from pathlib import Path

import pytest
from tiny import make_class_folders

from hkd_mm.apis.config.compose import load_config
from hkd_mm.apis.config.data_summary import summarize_data
from hkd_mm.apis.run.finished import (
    BEGUN,
    FINISHED,
    fingerprint,
    same,
)
from hkd_mm.apis.run.teacher_stage import provide_teacher
from hkd_mm.apis.train import train
from hkd_mm.errors import UserError


@pytest.fixture
def teacher_of(tiny_configs, tmp_path):
    """``provide_teacher`` with a stand-in for training."""
    calls = []

    def train(path, work_dir, resume, amp, cfg_options, launcher):
        calls.append(resume)
        cfg = load_config(path, cfg_options)
        summary = summarize_data(cfg)
        finished = dict(
            checkpoint='best.pth',
            classes=list(summary.classes),
            split_hash=summary.split_hash,
            config=fingerprint(cfg),
        )
        Path(work_dir).mkdir(parents=True, exist_ok=True)
        Path(work_dir, 'best.pth').write_bytes(b'')
        Path(work_dir, FINISHED).write_text(json.dumps(finished))
        return finished

    def provide(*options):
        cfg = load_config(tiny_configs['kd'], list(options))
        cfg.work_dir = str(tmp_path / 'runs' / 'kd')
        return provide_teacher(
            cfg, summarize_data(cfg), train, cfg_options=list(options)
        ), calls

    return provide


def test_teacher_is_trained_once_and_used_again(teacher_of, tmp_path, capsys):
    path, calls = teacher_of()
    assert path == str(tmp_path / 'runs' / 'tiny_teacher' / 'best.pth')
    again, calls = teacher_of()
    assert again == path and calls == [None]
    assert 'using the one trained before' in capsys.readouterr().out


def test_unfinished_teacher_is_resumed(teacher_of, tmp_path):
    folder = tmp_path / 'runs' / 'tiny_teacher'
    folder.mkdir(parents=True)
    (folder / 'epoch_1.pth').write_bytes(b'half a file')
    assert teacher_of()[1] == ['auto']


def test_options_of_the_student_alone_do_not_reach_the_teacher(teacher_of):
    options = [
        'model.distiller.distill_losses.loss_hybrid.tau=2.0',
        'max_epochs=1',
    ]
    assert teacher_of(*options)[1] == [None]
    # another temperature is the same teacher; other epochs are not
    options[0] = 'model.distiller.distill_losses.loss_hybrid.tau=8.0'
    assert teacher_of(*options)[1] == [None]


@pytest.mark.parametrize(
    'option, words',
    [
        ('split_seed=7', 'another split'),
        ('max_epochs=5', 'max_epochs'),
        ('sampler=balanced', 'sampler'),
        ('param_scheduler=[]', 'param_scheduler'),
        ('input_size=12', 'pipeline'),
    ],
)
def test_other_teacher_is_refused(option, words, teacher_of):
    teacher_of()
    with pytest.raises(UserError, match=words):
        teacher_of(option)


def test_other_data_is_another_split(teacher_of, tmp_path):
    teacher_of()
    root = make_class_folders(tmp_path / 'more', per_class=16)
    with pytest.raises(UserError, match='another split'):
        teacher_of(f'data_root={root}')


def test_a_teacher_of_other_packed_images_is_refused(teacher_of):
    packed = ['packed=True', 'packed.hair_removal=True']
    teacher_of(*packed)
    assert teacher_of(*packed)[1] == [None]
    with pytest.raises(UserError, match='another hair_removal'):
        teacher_of('packed=True')


def test_a_setting_that_is_taken_back_is_another_teacher(teacher_of):
    weights = 'class_weight=[1.0,1.0,2.0]'
    teacher_of(weights)
    with pytest.raises(UserError, match='another model'):
        teacher_of()
    assert teacher_of(weights)[1] == [None]


def test_a_teacher_begun_with_other_settings_is_not_gone_on_with(
    teacher_of, tiny_configs, tmp_path
):
    folder = tmp_path / 'runs' / 'tiny_teacher'
    folder.mkdir(parents=True)
    (folder / 'epoch_1.pth').write_bytes(b'half a file')
    begun = fingerprint(load_config(tiny_configs['teacher']))
    begun['batch_size'] += 1
    (folder / BEGUN).write_text(json.dumps(begun))
    with pytest.raises(UserError, match='begun with another batch_size'):
        teacher_of()
    begun['batch_size'] -= 1
    (folder / BEGUN).write_text(json.dumps(begun))
    assert teacher_of()[1] == ['auto']


def test_what_counts_as_the_same():
    assert same(dict(a=1, b=None), dict(a=1)) and same({}, dict(b=False))
    assert not same(dict(a=1, b=2), dict(a=1))
    assert not same(dict(a=1), dict(a=1, b=2))
    assert not same(dict(a=dict(b=1)), dict(a=dict(c=1)))


def test_a_teacher_that_was_stopped_is_compared_as_it_was_begun(
    teacher_of, tiny_configs, tmp_path, quick_runner
):
    """With the files that a real training leaves."""
    folder = tmp_path / 'runs' / 'tiny_teacher'
    own = str(tiny_configs['teacher'])
    train(own, work_dir=str(folder), cfg_options=['max_epochs=1'])
    (folder / FINISHED).unlink()
    for option, said in (
        ('batch_size=3', 'begun with another batch_size'),
        ('split_seed=7', 'another split'),
    ):
        with pytest.raises(UserError, match=said):
            teacher_of('max_epochs=1', option)
    assert teacher_of('max_epochs=1')[1] == ['auto']


def test_half_precision_and_a_lost_note_do_not_hinder_going_on(
    teacher_of, tiny_configs, tmp_path
):
    folder = tmp_path / 'runs' / 'tiny_teacher'
    folder.mkdir(parents=True)
    (folder / 'epoch_1.pth').write_bytes(b'half a file')
    begun = fingerprint(load_config(tiny_configs['teacher']))
    begun['optim_wrapper'].update(type='AmpOptimWrapper', dtype='bfloat16')
    (folder / BEGUN).write_text(json.dumps(begun))
    assert teacher_of()[1] == ['auto']
    (folder / FINISHED).unlink()
    (folder / BEGUN).write_text('{"model":')
    assert teacher_of()[1] == ['auto', 'auto']
