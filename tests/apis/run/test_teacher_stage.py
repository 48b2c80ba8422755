# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a teacher that is trained along takes over from its student."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny import make_class_folders

from hkd_mm.apis.config.compose import compose_config, load_config
from hkd_mm.apis.config.data_summary import summarize_data
from hkd_mm.apis.config.nets import config_root
from hkd_mm.apis.config.teacher_options import teacher_options
from hkd_mm.apis.run import earlier_stage
from hkd_mm.apis.run.fingerprint import RunFingerprint
from hkd_mm.apis.run.finished import FINISHED, write_begun
from hkd_mm.errors import UserError


def _handed(student, teacher, options=None):
    return teacher_options(
        compose_config(student, options), str(teacher), options
    )[0]


def _child(configs, text, base='tiny_kd'):
    path = configs['kd'].with_name('child.py')
    path.write_text(f'_base_ = "{base}.py"\n{text}')
    return path


def test_a_child_config_hands_its_settings_over(tiny_configs, tmp_path):
    root = make_class_folders(tmp_path / 'more')
    child = _child(
        tiny_configs,
        f'data_root = {str(root)!r}\ninput_size = 32\nbatch_size = 3\n'
        'split_ratios = (0.6, 0.2, 0.2)\nclass_weight = "balanced"\n'
        'max_epochs = 4\nseed = 7\npacked = dict(margin=1.2)\n',
    )
    options = ['batch_size=4', 'data_root=data root', 'max_epochs=4']
    handed = _handed(child, tiny_configs['teacher'])
    assert handed == {
        'data_root': str(root),
        'split_ratios': [0.6, 0.2, 0.2],
        'input_size': 32,
        'batch_size': 3,
        'max_epochs': 4,
        'seed': 7,
        'class_weight': 'balanced',
        'packed.margin': 1.2,
    }
    teacher = compose_config(tiny_configs['teacher'], handed)
    wrapper = teacher.train_dataloader.dataset
    assert (wrapper.size, wrapper.margin) == (32, 1.2)
    assert wrapper.dataset.data_root == str(root)
    assert teacher.randomness.seed == 7
    # the command line wins
    merged = _handed(child, tiny_configs['teacher'], options)
    assert merged == dict(handed, batch_size=4, data_root='data root')
    off = _handed(child, tiny_configs['teacher'], ['packed=False'])
    assert not compose_config(tiny_configs['teacher'], off).packed
    # and so it goes on through configs between
    child.rename(child.with_name('middle.py'))
    grandchild = _child(tiny_configs, 'patience = 3\n', 'middle')
    assert _handed(grandchild, tiny_configs['teacher']) == handed


def test_common_bases_leave_a_teachers_own_values_alone(tiny_configs):
    folder = tiny_configs['kd'].parent
    common = folder / 'common.py'
    common.write_text('_base_ = "tiny_student.py"\nmax_epochs = 5\n')
    own = 'max_epochs = 9\nbatch_size = 2\nseed = 3\n'
    teacher = folder / 'own.py'
    teacher.write_text(f'_base_ = "common.py"\n{own}')
    student = _child(tiny_configs, 'patience = 3\n', 'common')
    assert _handed(student, teacher) is None
    # without bases nobody can tell a choice from a habit
    teacher = folder / 'alone.py'
    teacher.write_text(tiny_configs['teacher'].read_text() + own)
    assert _handed(tiny_configs['kd'], teacher) is None


@pytest.mark.parametrize(
    'name',
    [
        'hybrid_wrn50_mbv2.py',
        'hybrid_wrn50_mbv2_ham10000.py',
        'ham10000_64/kd.py',
        'demo/hybrid_resnet18_mbv2_demo.py',
    ],
)
def test_our_pairs_agree_with_their_teachers(name):
    from hkd_mm.apis.config.compose import config_named

    cfg = compose_config(config_root() / name)
    assert teacher_options(cfg, config_named(cfg, 'teacher_config'), None) == (
        None,
        [],
    )


def _leave_teacher(cfg, folder) -> dict:
    """Write what a finished training of a config leaves."""
    summary = summarize_data(cfg, ('train_dataloader',))
    finished = dict(
        checkpoint='best.pth',
        classes=list(summary.classes),
        split_hash=summary.split_hash,
        fingerprint=RunFingerprint.of(cfg, summary).parts,
    )
    (folder / 'best.pth').write_bytes(b'')
    (folder / FINISHED).write_text(json.dumps(finished))
    return finished


@pytest.fixture
def stage(tiny_configs, tmp_path):
    """``provide_teacher`` with a stand-in for training."""
    from hkd_mm.apis.run.teacher_stage import provide_teacher

    calls = []

    def train(path, work_dir, resume, amp, cfg_options, launcher):
        cfg = load_config(path, cfg_options)
        calls.append(cfg)
        return _leave_teacher(cfg, Path(work_dir))

    def provide(student):
        cfg = load_config(student)
        cfg.work_dir = str(tmp_path / 'runs' / 'kd')
        found = provide_teacher(cfg, summarize_data(cfg), train)
        assert found == str(tmp_path / 'runs' / 'tiny_teacher' / 'best.pth')
        provide.used.append(found)
        return calls

    provide.calls, provide.used = calls, []
    return provide


def test_the_teacher_is_trained_with_the_students_file(
    stage, tiny_configs, tmp_path, capsys
):
    root = make_class_folders(tmp_path / 'more', per_class=16)
    child = _child(
        tiny_configs, f'data_root = {str(root)!r}\ninput_size = 32\n'
    )
    (cfg,) = stage(child)
    assert cfg.train_dataloader.dataset.data_root == str(root)
    assert cfg.train_dataloader.dataset.pipeline[1].scale == 32
    assert f'input_size=32 as in {child}' in capsys.readouterr().out
    assert len(stage(child)) == 1  # and is used again


def test_other_data_is_told_before_the_teacher_is_trained(
    stage, tiny_configs, tmp_path
):
    root = make_class_folders(tmp_path / 'more', per_class=16)
    loaders = ''.join(
        f'{part}_dataloader = dict(dataset=dict(data_root={str(root)!r}))\n'
        for part in ('train', 'val', 'test')
    )
    with pytest.raises(UserError, match='other data than the student'):
        stage(_child(tiny_configs, loaders))
    assert not stage.calls


def test_a_loss_that_trains_nothing_is_told_before(stage, tiny_configs):
    path = tiny_configs['kd']
    path.write_text(path.read_text().replace('loss_hybrid=', 'hybrid='))
    with pytest.raises(UserError, match='call it loss_hybrid'):
        stage(path)
    assert not stage.calls


_HOLDER = """
import sys, time
from pathlib import Path
from hkd_mm.file_lock import locked
with locked(Path(sys.argv[1])):
    print('held', flush=True)
    sys.stdin.readline()
"""


def test_a_teacher_that_another_process_trains_is_waited_for(
    stage, tiny_configs, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(earlier_stage, 'PAUSE', 0.1)
    folder = tmp_path / 'runs' / 'tiny_teacher'
    with subprocess.Popen(
        [sys.executable, '-c', _HOLDER, str(folder)],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == 'held\n'
        cfg = load_config(tiny_configs['teacher'])
        summary = summarize_data(cfg)
        write_begun(str(folder), RunFingerprint.of(cfg, summary))
        thread = threading.Thread(target=stage, args=[tiny_configs['kd']])
        thread.start()
        said, end = '', time.monotonic() + 60
        while 'waiting for the teacher' not in said:
            assert thread.is_alive() and time.monotonic() < end
            time.sleep(0.1)
            said += capsys.readouterr().err
        assert f'that process {other.pid} on ' in said
        # what the other process leaves at its end
        _leave_teacher(cfg, folder)
        other.communicate('\n')
        thread.join(60)
    assert stage.used and not stage.calls
