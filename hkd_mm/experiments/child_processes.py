# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tools as child processes that end with the one that started them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from hkd_mm.cli import INTERRUPTED, PARENT, TERMINATED
from hkd_mm.config.networks import config_root
from hkd_mm.experiments.run_folders import TESTED, is_resumable

TOOLS = config_root().parent / 'tools'
LOOK = 1.0  # seconds between two looks at a process
_GRACE = 30.0  # seconds that a process gets to end by itself
_INTERRUPTED = (INTERRUPTED, TERMINATED, -signal.SIGINT, -signal.SIGTERM)


class Failed(Exception):
    """A process ended with an error."""


class ChildStopped(Exception):
    """A process was ended because it was not worth going on."""


class Interrupted(Exception):
    """A process was ended by somebody else: it has not failed."""


def train(config: Path, folder: Path, options: list[str], log: Path, **kwargs) -> None:
    """Train a run in its work dir, or resume it; the rest as of :func:`run_tool`."""
    resume = ['--resume'] if is_resumable(folder) else []
    arguments = [str(config), *resume, '--work-dir', str(folder)]
    run_tool('train.py', arguments, log, options, **kwargs)


def test(config: Path, folder: Path, options: list[str], log: Path, **kwargs) -> None:
    """Test the student of a run; arguments as of :func:`train`."""
    arguments = [str(config), str(folder / 'student.pth')]
    arguments += ['--work-dir', str(folder / 'test')]
    for name in TESTED:
        arguments += ['--out', str(folder / name)]
    run_tool('test.py', arguments, log, options, **kwargs)


def run_tool(
    tool: str,
    arguments: Sequence[str],
    log: Path,
    options: Sequence[str] = (),
    should_stop: Callable[[], bool] = lambda: False,
    threads: int | None = None,
) -> None:
    """Run a tool of ``tools`` to its end; however this returns, its process has ended.

    Its output is added to the ``log``. ``should_stop`` is called every second; True
    ends the process, by :class:`ChildStopped`. ``threads`` are those of its CPU
    operators.
    """
    command = [sys.executable, str(TOOLS / tool), *arguments]
    command += ['--cfg-options', *options] if options else []
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a', encoding='utf-8', errors='backslashreplace') as stream:
        print('+', *command, file=stream, flush=True)
        env = {} if threads is None else dict(OMP_NUM_THREADS=str(threads))
        child = start(command, stream, env)
    try:
        while (code := _code(child, LOOK)) is None:
            if should_stop():
                raise ChildStopped
    finally:
        end(child)
    if code in _INTERRUPTED:
        raise Interrupted(f'{tool} was interrupted')
    if code:
        raise Failed(f'{tool} ended with {code}: {last_line(log)}')


def start(command: list[str], stream: IO, env: dict[str, str]) -> subprocess.Popen:
    """Start a tool that ends with this process, however that ends."""
    return subprocess.Popen(
        command,
        stdout=stream,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env, PARENT: str(os.getpid())},
    )


def _code(child: subprocess.Popen, seconds: float) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return child.wait(seconds)


def end(child: subprocess.Popen) -> None:
    """Have a process ended, and wait for that."""
    child.terminate()
    if _code(child, _GRACE) is None:
        child.kill()
        child.wait()


def last_line(log: Path) -> str:
    """Last line of a log's last command; an error line if there is one."""
    text = '\n' + log.read_text(encoding='utf-8', errors='replace')
    lines = text.rpartition('\n+ ')[2].split('\n')[text.count('\n+ ') > 0 :]
    lines = [line for line in lines if line.strip()]
    errors = [line for line in lines if line.startswith('error: ')]
    line = (errors or lines or ['no output'])[-1]
    return f'{line.removeprefix("error: ")} ({log})'
