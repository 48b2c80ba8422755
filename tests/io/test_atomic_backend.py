# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Files are damaged on purpose; only whole checkpoints are ever used."""

import os
import signal
import subprocess
import sys
import zipfile

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner import save_checkpoint

from hkd_mm.io import checkpoints
from hkd_mm.io.atomic_files import AtomicBackend, remove_parts
from hkd_mm.io.checkpoints import find_damage, latest_intact_checkpoint


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(
        checkpoints, 'print_log', lambda text, **kwargs: lines.append(text)
    )
    return lines


def write_run(folder, epochs=3, pointer=True):
    """A work dir as CheckpointHook leaves it; the paths by epoch."""
    paths = {}
    for epoch in range(1, epochs + 1):
        paths[epoch] = folder / f'epoch_{epoch}.pth'
        state = dict(weight=torch.full((64, 64), float(epoch)))
        save_checkpoint(
            dict(state_dict=state, meta=dict(epoch=epoch)),
            str(paths[epoch]),
            backend_args=dict(backend='atomic'),
        )
    if pointer:
        (folder / 'last_checkpoint').write_text(str(paths[epochs]))
    return paths


def truncate(path):
    with open(path, 'r+b') as file:
        file.truncate(path.stat().st_size // 2)


def flip_a_byte_of_the_weights(path):
    with zipfile.ZipFile(path) as archive:
        info = max(archive.infolist(), key=lambda item: item.file_size)
    with open(path, 'r+b') as file:
        file.seek(info.header_offset + info.file_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))


def make_empty(path):
    path.write_bytes(b'')


def write_rubbish(path):
    path.write_bytes(os.urandom(5000))


DAMAGES = [truncate, flip_a_byte_of_the_weights, make_empty, write_rubbish, os.remove]


def test_backend_is_registered_and_writes_text_and_bytes(tmp_path):
    backend = get_file_backend(str(tmp_path), backend_args=dict(backend='atomic'))
    assert isinstance(backend, AtomicBackend)
    backend.put(b'\x00\x01', tmp_path / 'new' / 'a.bin')
    backend.put_text('äöü\n', tmp_path / 'b.txt')
    assert (tmp_path / 'new' / 'a.bin').read_bytes() == b'\x00\x01'
    assert (tmp_path / 'b.txt').read_text('utf-8') == 'äöü\n'
    assert sorted(p.name for p in tmp_path.rglob('*')) == ['a.bin', 'b.txt', 'new']


def test_files_get_the_usual_permissions_and_follow_links(tmp_path):
    plain, kept, link = (tmp_path / name for name in ('plain', 'to', 'link'))
    plain.touch()
    kept.touch()
    link.symlink_to(kept)
    AtomicBackend().put(b'x', link)
    assert link.is_symlink() and kept.read_bytes() == b'x'
    assert kept.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    target = tmp_path / 'epoch_1.pth'
    target.write_bytes(b'old')

    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match='No space'):
        AtomicBackend().put(b'new', target)
    assert target.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['epoch_1.pth']


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    target = tmp_path / 'epoch_1.pth'
    target.write_bytes(b'old')
    code = (
        'import os, signal\n'
        'from hkd_mm.io.atomic_files import AtomicBackend\n'
        'os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n'
        f'AtomicBackend().put(b"new", {str(target)!r})\n'
    )
    done = subprocess.run([sys.executable, '-c', code])
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b'old'
    assert len(list(tmp_path.iterdir())) == 2
    assert len(remove_parts(tmp_path)) == 1
    assert os.listdir(tmp_path) == ['epoch_1.pth']


def test_the_named_one_is_taken_when_intact(tmp_path, said):
    paths = write_run(tmp_path)
    assert latest_intact_checkpoint(tmp_path) == str(paths[3])
    (tmp_path / 'last_checkpoint').write_text(str(paths[2]))
    assert latest_intact_checkpoint(tmp_path) == str(paths[2])
    assert said == []


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_last_falls_back_and_says_so(tmp_path, said, damage):
    paths = write_run(tmp_path)
    damage(paths[3])
    assert find_damage(paths[3])
    assert latest_intact_checkpoint(tmp_path) == str(paths[2])
    assert len(said) == 1 and str(paths[3]) in said[0]
    damage(paths[2])
    assert latest_intact_checkpoint(tmp_path) == str(paths[1])


def test_none_left_is_none_and_said(tmp_path, said):
    for path in write_run(tmp_path).values():
        make_empty(path)
    assert latest_intact_checkpoint(tmp_path) is None
    assert len(said) == 4 and 'NO INTACT' in said[-1]


def test_a_new_folder_is_quietly_none(tmp_path, said):
    assert latest_intact_checkpoint(tmp_path) is None
    assert latest_intact_checkpoint(tmp_path / 'missing') is None
    assert said == []


@pytest.mark.parametrize(
    'pointer', ['', '\n', '\0\0\0', 'a' * 5000, 'x\0.pth', 'a\nb.pth', '..', 'epo']
)
def test_a_half_written_pointer_means_the_newest(tmp_path, said, pointer):
    paths = write_run(tmp_path, epochs=11, pointer=False)
    (tmp_path / 'last_checkpoint').write_text(pointer)
    assert latest_intact_checkpoint(tmp_path) == str(paths[11])
    os.remove(tmp_path / 'last_checkpoint')
    assert latest_intact_checkpoint(tmp_path) == str(paths[11])


def test_a_moved_folder_is_resumed_where_it_lies(tmp_path, said):
    (tmp_path / 'old').mkdir()
    write_run(tmp_path / 'old')
    moved = (tmp_path / 'old').rename(tmp_path / 'moved')
    assert latest_intact_checkpoint(moved) == str(moved / 'epoch_3.pth')
    assert said == []


def test_best_checkpoints_are_not_resumed_from(tmp_path, said):
    paths = write_run(tmp_path, epochs=1)
    paths[1].rename(tmp_path / 'best_balanced_accuracy_epoch_1.pth')
    assert latest_intact_checkpoint(tmp_path) is None


def test_a_file_that_would_run_code_is_not_used(tmp_path, said):
    paths = write_run(tmp_path, epochs=2)

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'owned'),)

    torch.save(dict(state_dict={}, evil=Evil()), paths[2])
    assert latest_intact_checkpoint(tmp_path) == str(paths[1])
    assert not (tmp_path / 'owned').exists()
    assert 'could run code' in said[0]
