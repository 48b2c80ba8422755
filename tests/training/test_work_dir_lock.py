# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One training at a time in a work dir."""

import os
import time
from functools import partial
from pathlib import Path

import pytest
import torch.distributed as dist
from processes import fork
from tiny import make_class_folders

from hkd_mm.errors import UserError
from hkd_mm.io import locks as file_lock
from hkd_mm.training.run_notes import STATE, read_finished
from hkd_mm.training.runtime import hold_work_dir


def files_of(folder):
    """Name -> content of all that a run left at the top, but for the log."""
    return {
        path.name: path.read_bytes()
        for path in Path(folder).iterdir()
        if path.is_file()
    }


def test_a_second_training_is_refused_and_a_killed_one_gone_on_with(
    tiny_configs, tmp_path, tool, quick_runner, capsys
):
    config, run = str(tiny_configs['student']), tmp_path / 'run'
    argv = [config, '--work-dir', str(run), '--cfg-options']
    endless = [*argv, 'max_epochs=5000', 'param_scheduler=None']
    first = fork(lambda: tool('train')(endless), tmp_path / 'out')
    try:
        wait_for(first, lambda: any(run.glob('epoch_*.pth')))
        assert tool('train')([*argv, 'max_epochs=1']) == 2
        (line,) = [
            line for line in capsys.readouterr().err.splitlines() if 'error:' in line
        ]
        assert line.startswith(f'error: work dir {run} is in use by ')
        assert f'(process {first.pid} on ' in line
        assert line.endswith('or give another --work-dir')
        assert first.is_alive()
        assert not (run / 'previous_1').exists()
    finally:
        first.kill()
        first.join()
    before = files_of(run)
    # of the run that was killed, which nobody holds now
    assert tool('train')([*argv, 'max_epochs=1']) == 0
    aside = files_of(run / 'previous_1')
    for name, content in before.items():
        if name.endswith(('.pth', '.py', '.json')):
            assert aside[name] == content, name
    assert read_finished(run)['max_epochs'] == 1


def wait_for(process, happened, seconds=120):
    end = time.monotonic() + seconds
    while not happened():
        assert process.is_alive() and time.monotonic() < end
        time.sleep(0.1)


def test_other_data_in_the_same_folder_loses_nothing_of_the_first(
    tiny_configs, tmp_path, tool, quick_runner, capsys
):
    """As two data roots with the default work dir, one after the other."""
    config = str(tiny_configs['student'])
    argv = [config, '--cfg-options', 'max_epochs=1']
    assert tool('train')(argv) == 0
    run = tmp_path / 'work_dirs' / 'tiny_student'
    (run / 'test.json').write_text('{}')  # of tools/test.py
    before = files_of(run)
    root = make_class_folders(tmp_path / 'more', per_class=16)
    assert tool('train')([*argv, f'data_root={root}']) == 0
    assert 'PREVIOUS RUN' in capsys.readouterr().out
    after = files_of(run / 'previous_1')
    del before['lock']
    assert after == before
    assert files_of(run)['run_state.json'] != before['run_state.json']
    # and the first may be gone on with where it is now
    assert (run / 'previous_1' / STATE).is_file()


def enter(folder, meet, rank):
    meeting = f'file://{meet}'
    dist.init_process_group('gloo', init_method=meeting, rank=rank, world_size=2)
    try:
        with hold_work_dir(str(folder)):
            print('entered')
            dist.barrier()
    except UserError as error:
        print(error)
    dist.destroy_process_group()


def ranks(folder, meet):
    """What two processes of one launch say of a work dir."""
    files = [meet.with_suffix(f'.{rank}') for rank in range(2)]
    started = [
        fork(partial(enter, folder, meet, rank), file)
        for rank, file in enumerate(files)
    ]
    for process in started:
        process.join(120)
        assert process.exitcode == 0
    return [file.read_text().splitlines()[-1] for file in files]


def test_all_ranks_of_a_launch_enter_or_none(tmp_path):
    run = tmp_path / 'run'
    with hold_work_dir(str(run)):
        for said in ranks(run, tmp_path / 'first'):
            assert said.startswith(f'work dir {run} is in use by another')
            assert f'(process {os.getpid()} on ' in said
    assert ranks(run, tmp_path / 'second') == ['entered'] * 2


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
    def refuse(handle, how):
        raise OSError(file_lock._NO_LOCKS[0], 'no locks')

    monkeypatch.setattr(file_lock.fcntl, 'flock', refuse)
    with hold_work_dir(str(tmp_path)):
        assert 'WARNING: the file system of' in capsys.readouterr().out


def test_a_work_dir_that_is_a_file_is_told(tmp_path):
    (tmp_path / 'run').touch()
    with pytest.raises(UserError, match='is a file'):
        with hold_work_dir(str(tmp_path / 'run')):
            pass
