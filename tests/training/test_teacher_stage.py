# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a teacher that is trained along takes over from its student."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny import make_class_folders

from hkd_mm.config.compose import compose_config, load_config
from hkd_mm.config.data_summary import summarize_data
from hkd_mm.config.networks import config_root
from hkd_mm.config.teacher_options import teacher_options
from hkd_mm.config.tree import datasets
from hkd_mm.errors import UserError
from hkd_mm.training import previous_run as earlier_stage
from hkd_mm.training.fingerprint import RunFingerprint
from hkd_mm.training.run_notes import update_state, write_begun


def _handed(student, teacher, options=None):
    return teacher_options(compose_config(student, options), str(teacher), options)[0]


def _child(configs, text, base='tiny_kd'):
    path = configs['kd'].with_name('child.py')
    path.write_text(f'_base_ = "{base}.py"\n{text}')
    return path


def _own_images(root, more='') -> str:
    """Text of a child that has other images; it states nested values."""
    return (
        f'data_root = {str(root)!r}\n'
        f'_loader = dict(dataset=dict(data_root=data_root{more}))\n'
        'train_dataloader = val_dataloader = test_dataloader = _loader\n'
        'del _loader\n'
    )


def test_a_child_config_hands_its_images_over(tiny_configs, tmp_path):
    root = make_class_folders(tmp_path / 'more')
    child = _child(
        tiny_configs,
        'split_ratios = (0.6, 0.2, 0.2)\n'
        + _own_images(root, ', split_ratios=split_ratios')
        + 'train_cfg = dict(max_epochs=4)\nmax_epochs = 4\n',
    )
    handed = _handed(child, tiny_configs['teacher'])
    assert handed == {'data_root': str(root), 'split_ratios': [0.6, 0.2, 0.2]}
    teacher = compose_config(tiny_configs['teacher'], handed)
    for node in datasets(teacher):
        assert node.data_root == str(root)
        assert node.split_ratios == [0.6, 0.2, 0.2]
    assert teacher.train_cfg.max_epochs == 2  # its config says how
    # the command line wins
    options = ['batch_size=4', 'data_root=data root', 'max_epochs=4']
    merged = _handed(child, tiny_configs['teacher'], options)
    assert merged == dict(handed, batch_size='4', data_root='data root', max_epochs='4')
    packed = _handed(
        child, tiny_configs['teacher'], ['packed.margin=1.2', 'input_size=32']
    )
    assert packed == {**handed, 'packed.margin': '1.2', 'input_size': '32'}
    wrapper = compose_config(tiny_configs['teacher'], packed).train_dataloader.dataset
    assert (wrapper.size, wrapper.margin) == (32, 1.2)
    assert wrapper.dataset.data_root == str(root)
    off = _handed(child, tiny_configs['teacher'], ['packed=False'])
    assert not compose_config(tiny_configs['teacher'], off).packed
    # and so it goes on through configs between
    child.rename(child.with_name('middle.py'))
    grandchild = _child(tiny_configs, 'tags = 3\n', 'middle')
    assert _handed(grandchild, tiny_configs['teacher']) == handed


def test_what_the_teacher_has_no_place_for_is_left_out(tiny_configs):
    cfg = compose_config(tiny_configs['kd'])
    options = [
        'batch_size=4',
        'model.distiller.distill_losses.loss_hybrid.tau=2',
        'student=resnet8',
        'patience=3',
        'optim_wrapper.optimizer.lr=0.1',
    ]
    typed = dict(option.split('=') for option in options)
    read = {**typed, 'batch_size': 4, 'patience': 3, 'optim_wrapper.optimizer.lr': 0.1}
    for given, wanted in ((options, typed), (read, read)):
        found, lines = teacher_options(cfg, str(tiny_configs['teacher']), given)
        kept = ('batch_size', 'optim_wrapper.optimizer.lr')
        assert found == {key: wanted[key] for key in kept}
        assert lines == ['patience is left out, its config has no place for it']


def test_a_training_with_its_teacher_reads_few_files(stage, monkeypatch, tmp_path):
    """Five options, from the command line to the teacher's training."""
    from mmengine.config import Config

    from hkd_mm.training.stages import provide_teacher

    read, fromfile = [], Config.fromfile

    def counted(path, *args, **kwargs):
        read.append(Path(path).name)
        return fromfile(path, *args, **kwargs)

    monkeypatch.setattr(Config, 'fromfile', staticmethod(counted))
    root = make_class_folders(
        tmp_path / 'images', per_class=16, classes=('A', 'B', 'C')
    )
    options = [
        f'data_root={root}',
        'max_epochs=2',
        'batch_size=4',
        'student=shufflenetv2',
        'optim_wrapper.optimizer.lr=0.1',
    ]
    cfg = load_config(config_root() / 'hybrid_wrn50_mbv2.py', options)
    cfg.work_dir = str(tmp_path / 'runs/kd')

    def train(path, work_dir, resume, cfg_options, **_):
        teacher = load_config(path, cfg_options)
        assert teacher.optim_wrapper.optimizer.lr == 0.1
        return _leave_teacher(teacher, Path(work_dir))

    provide_teacher(cfg, summarize_data(cfg), train, cfg_options=options)
    own = [name for name in read if name == 'hybrid_wrn50_mbv2.py']
    assert len(own) == 1 and len(read) <= 6, read


def test_a_teachers_own_values_are_left_alone(tiny_configs):
    folder = tiny_configs['kd'].parent
    own = 'max_epochs = 9\ntrain_cfg = dict(max_epochs=max_epochs)\n'
    teacher = folder / 'own.py'
    teacher.write_text(f'_base_ = "tiny_teacher.py"\n{own}')
    assert _handed(tiny_configs['kd'], teacher) == {}
    assert compose_config(teacher).train_cfg.max_epochs == 9


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
    from hkd_mm.config.compose import config_named

    cfg = compose_config(config_root() / name)
    assert teacher_options(cfg, config_named(cfg, 'teacher_config'), None) == (
        {},
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
    update_state(folder, result=finished)
    return finished


@pytest.fixture
def stage(tiny_configs, tmp_path):
    """``provide_teacher`` with a stand-in for training."""
    from hkd_mm.training.stages import provide_teacher

    calls = []

    def train(path, work_dir, resume, cfg_options, **_):
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
    child = _child(tiny_configs, _own_images(root))
    (cfg,) = stage(child)
    assert cfg.train_dataloader.dataset.data_root == str(root)
    assert f'data_root={str(root)!r} as in {child}' in capsys.readouterr().out
    assert len(stage(child)) == 1  # and is used again


def test_other_data_is_told_before_the_teacher_is_trained(
    stage, tiny_configs, tmp_path
):
    root = make_class_folders(tmp_path / 'more', per_class=16)
    loaders = ''.join(
        f'{part}_dataloader = dict(dataset=dict(data_root={str(root)!r}))\n'
        for part in ('train', 'val', 'test')
    )
    with pytest.raises(UserError, match='data_root .* reaches nothing'):
        stage(_child(tiny_configs, loaders))
    # without the word at the top nothing hands the images over
    text = tiny_configs['kd'].read_text()
    word = next(x for x in text.split('\n') if x.startswith('data_root = '))
    text = text.replace('data_root=data_root', word.replace(' ', '', 2))
    tiny_configs['kd'].write_text(text.replace(word + '\n', ''))
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
from hkd_mm.io.locks import locked
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
        cwd=Path(__file__).parents[2],
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


def test_how_the_student_is_mixed_makes_no_other_teacher(tiny_configs):
    """A teacher whose images are not mixed is found again."""
    mixed = {
        'packed': True,
        'packed.augment': [dict(type='hkd_mm.Mixup', alpha=1.0)],
        'packed.partners': 'split',
    }
    handed = _handed(tiny_configs['kd'], tiny_configs['teacher'], mixed)
    assert 'packed.partners' not in handed
