# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Every tool lets idle threads sleep before it imports torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / 'tools').rglob('*.py')
    if not path.name.startswith('_')
    and not path.is_symlink()  # names its new place
    and path.parent.name != 'dev'
)
# Runs a tool up to where it imports torch or starts another process, with
# some file as each argument it must have and small numbers; prints what the
# variable is there.
PROBE = """
import argparse, os, runpy, subprocess, sys

def end(*args, **kwargs):
    print('policy', os.environ.get('OMP_WAIT_POLICY'), flush=True)
    os._exit(0)

class Finder:
    def find_spec(name, path=None, target=None):
        if name == 'torch':
            end()

def parse_args(self, args=None, namespace=None):
    found = argparse.Namespace()
    for action in self._actions:
        value = action.default
        if action.type is int:
            value = 8
        elif action.required:
            value = (action.type or str)('missing.py')
        if action.nargs and (action.required or action.type is int):
            value = [value]
        setattr(found, action.dest, value)
    return found

argparse.ArgumentParser.parse_args = parse_args
subprocess.Popen.__init__ = end
sys.meta_path.insert(0, Finder)
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    end()
"""


def run(code: str, *argv: str, cwd=ROOT, **environ: str) -> str:
    """What a child of a clean environment prints at last."""
    kept = {k: v for k, v in os.environ.items() if k != 'OMP_WAIT_POLICY'}
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code, *argv],
        env={**kept, 'PYTHONPATH': str(ROOT), **environ},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize('tool', TOOLS, ids=str)
def test_threads_wait_passively_in_every_tool(tool, tmp_path):
    assert run(PROBE, str(ROOT / tool), cwd=tmp_path) == 'policy PASSIVE'


def test_the_choice_of_the_user_stays(tmp_path):
    tool = str(ROOT / 'tools/train.py')
    policy = dict(OMP_WAIT_POLICY='active')
    assert run(PROBE, tool, cwd=tmp_path, **policy) == 'policy active'


def test_libgomp_takes_it_and_children_inherit_it():
    """OMP_DISPLAY_ENV has the runtime print what it has read."""
    code = (
        'import hkd_mm, subprocess, sys\n'
        'ran = subprocess.run([sys.executable, "-c", "import torch; '
        'print(torch.__config__.parallel_info())"], capture_output=True, '
        'text=True, check=True)\n'
        'read = [line.split("=")[1].strip() for line in '
        'ran.stderr.splitlines() if "OMP_WAIT_POLICY" in line]\n'
        'print(*read)'
    )
    assert run(code, OMP_DISPLAY_ENV='true') == "'PASSIVE'"


def test_nothing_is_set_once_torch_is_there():
    code = 'import torch, hkd_mm, os; print(os.environ.get("OMP_WAIT_POLICY"))'
    assert run(code) == 'None'
