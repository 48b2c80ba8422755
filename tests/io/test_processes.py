# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""No process outlives the one that started it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import has_ended, wait_for

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT)}
CHILD = """
import sys, time
sys.platform = {platform!r}
from hkd_mm.io.processes import die_with_parent
die_with_parent()
open('ready', 'w').close()
time.sleep(60)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, 'child.py'])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')
@pytest.mark.parametrize('platform', ['linux', 'darwin'])
def test_a_child_ends_with_a_killed_parent(tmp_path, platform):
    (tmp_path / 'child.py').write_text(CHILD.format(platform=platform))
    with subprocess.Popen(
        [sys.executable, '-c', PARENT],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as parent:
        child = int(parent.stdout.readline())
        assert wait_for((tmp_path / 'ready').exists)
        assert not has_ended(child)
        parent.send_signal(signal.SIGKILL)
    assert wait_for(lambda: has_ended(child))


def test_a_child_whose_parent_has_ended_does_not_begin(tmp_path):
    code = 'from hkd_mm.io.processes import die_with_parent as die; die({}); print(1)'
    for parent, out in ((os.getpid(), '1\n'), (2**22 + 1, '')):
        done = subprocess.run(
            [sys.executable, '-c', code.format(parent)],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
        )
        assert done.stdout == out
        assert done.returncode == (0 if out else 1)


def test_a_forked_process_takes_its_own_parent():
    from hkd_mm.io.processes import die_with_parent

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            die_with_parent()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
