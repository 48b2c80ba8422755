# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Two stages by one command: the second starts from the first's student."""

import json
import shutil

import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load, student_state_dict
from hkd_mm.training.run_notes import update_state
from hkd_mm.training.trainer import train

OPTIONS = dict(max_epochs=1, teacher_config='tiny_teacher.py')


@pytest.fixture
def two_stages(tiny_configs, quick_runner, tmp_path):
    second = tmp_path / 'second.py'
    second.write_text(
        '_base_ = "tiny_kd.py"\nprevious_stage_config = "tiny_kd.py"\n'
        'optim_wrapper = dict(optimizer=dict(lr=0.0, momentum=0.0))\n'
        'model = dict(distiller=dict(distill_losses=dict('
        'loss_hybrid=dict(beta=0.0))))\n'
    )

    def run(**options):
        return train(
            str(second),
            str(tmp_path / 'runs' / 'second'),
            cfg_options=OPTIONS | options,
            resume=options.pop('resume', None),
        )

    return run


def student_of(path):
    return student_state_dict(safe_load(str(path)))


def test_the_second_stage_starts_where_the_first_ended(two_stages, tmp_path, capsys):
    two_stages()
    runs = tmp_path / 'runs'
    said = capsys.readouterr().out
    first_said = said.index('FIRST STUDENT: model.student_ckpt is None')
    assert said.index('TEACHER: model.teacher_ckpt is None') < first_said
    assert said.count('TEACHER: done') == 1  # one teacher for both
    first = student_of(runs / 'tiny_kd' / 'epoch_1.pth')
    second = student_of(runs / 'second' / 'epoch_1.pth')
    weights = [key for key in first if 'running' not in key]
    for key in weights:
        if 'num_batches' not in key:
            assert torch.equal(first[key], second[key]), key  # lr 0
    begun = json.loads((runs / 'second' / 'run_state.json').read_text())
    assert begun['stages'] == [
        str(runs / 'tiny_teacher'),
        str(runs / 'tiny_kd'),
    ]


def test_what_is_done_is_used_and_what_is_begun_resumed(two_stages, tmp_path, capsys):
    two_stages()
    runs = tmp_path / 'runs'
    shutil.rmtree(runs / 'second')
    stamp = (runs / 'tiny_kd' / 'epoch_1.pth').stat().st_mtime_ns
    capsys.readouterr()
    two_stages()
    said = capsys.readouterr().out
    assert 'FIRST STUDENT: using the one trained before' in said
    assert (runs / 'tiny_kd' / 'epoch_1.pth').stat().st_mtime_ns == stamp
    # killed between its last epoch and its last word
    update_state(runs / 'tiny_kd', result=None)
    two_stages()
    assert 'the first student is resumed first' in capsys.readouterr().out
    assert (runs / 'tiny_kd' / 'run_state.json').is_file()


def test_another_first_stage_gets_a_folder_of_its_own(two_stages, tmp_path, capsys):
    two_stages()
    runs = tmp_path / 'runs'
    before = (runs / 'tiny_kd' / 'run_state.json').read_bytes()
    capsys.readouterr()
    two_stages(max_epochs=2, **{'model.teacher_ckpt': teacher()})
    said = capsys.readouterr().out
    assert (
        f'FIRST STUDENT: the one in {runs / "tiny_kd"} is not taken: '
        'max_epochs 2 here, 1 there; to use it all the same: --cfg-options '
        f'model.student_ckpt={runs / "tiny_kd"}/' in said
    )
    assert (runs / 'tiny_kd' / 'run_state.json').read_bytes() == before
    (other,) = runs.glob('tiny_kd-????????')
    assert json.loads((other / 'run_state.json').read_text())['result']['epoch'] == 2


def teacher():
    from pathlib import Path

    (found,) = Path('runs/tiny_teacher').glob('best*.pth')
    return str(found.resolve())


def test_another_student_is_refused(two_stages, tiny_configs):
    text = tiny_configs['kd'].read_text()
    other = tiny_configs['kd'].with_name('other.py')
    other.write_text(text.replace('base_channels=4', 'base_channels=6'))
    with pytest.raises(UserError, match='another network than model.architecture'):
        two_stages(previous_stage_config='other.py')
