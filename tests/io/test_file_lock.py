# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A folder is held by one at a time, across threads and processes."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from hkd_mm.io import locks as file_lock
from hkd_mm.io.locks import has_locks, holder, is_locked, locked

_ROOT = Path(__file__).parents[2]
_HOLD = """
import sys
from pathlib import Path
from hkd_mm.io.locks import locked
with locked(Path(sys.argv[1])):
    print('held', flush=True)
    sys.stdin.readline()
"""


@contextmanager
def other_process(folder):
    """A process that holds the lock of a folder until it is told to end."""
    with subprocess.Popen(
        [sys.executable, '-c', _HOLD, str(folder)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == 'held\n'
        try:
            yield process
        finally:
            process.kill()


def test_another_process_is_kept_out_until_it_is_killed(tmp_path):
    with other_process(tmp_path) as other:
        assert is_locked(tmp_path)
        assert holder(tmp_path).startswith(f'process {other.pid} on ')
        with locked(tmp_path, wait=False) as held:
            assert not held
            assert holder(tmp_path).startswith(f'process {other.pid} on ')
        # to have asked is not to have taken, nor to have signed
        assert holder(tmp_path).startswith(f'process {other.pid} on ')
        os.kill(other.pid, signal.SIGKILL)
        with locked(tmp_path) as held:
            assert held and not is_locked(tmp_path)
            assert f'{os.getpid()}' in holder(tmp_path)
            assert has_locks(tmp_path)
            # none of the questions has let go of it
            assert _asked_by_another(tmp_path) == 'busy'
    assert _asked_by_another(tmp_path) == 'free'


def _asked_by_another(folder) -> str:
    code = (
        'import sys; from pathlib import Path\n'
        'from hkd_mm.io.locks import is_locked\n'
        "print('busy' if is_locked(Path(sys.argv[1])) else 'free')"
    )
    return subprocess.run(
        [sys.executable, '-c', code, str(folder)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_who_holds_it_may_take_it_again_and_another_thread_not(tmp_path):
    found = []

    def ask():
        with locked(tmp_path, wait=False) as held:
            found.append(held)
        found.append(is_locked(tmp_path))

    def in_a_thread():
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(60)

    with locked(tmp_path):
        with locked(tmp_path, wait=False) as again:
            assert again
        in_a_thread()
        assert found == [False, True]
        assert _asked_by_another(tmp_path) == 'busy'
    in_a_thread()
    assert found[2:] == [True, False]


def test_a_forked_child_holds_nothing(tmp_path):
    with locked(tmp_path):
        child = os.fork()
        if not child:
            with locked(tmp_path, wait=False) as held:
                os._exit(1 if held else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert _asked_by_another(tmp_path) == 'busy'


def test_without_locks_of_the_file_system_nobody_is_kept_out(tmp_path, monkeypatch):
    def refuse(handle, how):
        raise OSError(file_lock._NO_LOCKS[0], 'no locks')

    monkeypatch.setattr(file_lock.fcntl, 'flock', refuse)
    assert not has_locks(tmp_path) and not is_locked(tmp_path)
    with locked(tmp_path, wait=False) as held:
        assert held


@pytest.mark.parametrize('wait', [False, True])
def test_an_error_inside_lets_go(tmp_path, wait):
    with pytest.raises(ValueError), locked(tmp_path, wait):
        raise ValueError
    assert not is_locked(tmp_path)
