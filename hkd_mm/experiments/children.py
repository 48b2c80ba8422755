# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tools as child processes that end with the one that started them."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hkd_mm.cli import INTERRUPTED, PARENT
from hkd_mm.config.networks import config_root

TOOLS = config_root().parent / 'tools'
LOOK = 1.0  # seconds between two looks at a training
_GRACE = 30.0  # seconds that a process gets to end by itself
_TOLD_TO_END = (
    INTERRUPTED,
    128 + signal.SIGTERM,
    -signal.SIGINT,
    -signal.SIGTERM,
)


class Failed(Exception):
    """A process ended with an error."""


class Cut(Exception):
    """A process was ended because it was not worth going on."""


class Interrupted(Exception):
    """A process was told to end by somebody else: it has not failed."""


def run_child(
    command: list[str],
    log: Path,
    enough: Callable[[], bool] = lambda: False,
    threads: int | None = None,
) -> None:
    """Run a tool to its end.

    However this returns, the process has ended.

    Args:
        command: after the interpreter.
        log: what it prints is added there.
        enough: asked now and then; True ends the process.
        threads: of its CPU operators; None: as it chooses.

    Raises:
        Failed: it ended with an error.
        Cut: ``enough`` said so.
        Interrupted: somebody else ended it.
    """
    command = [sys.executable, *command]
    env = {**os.environ, PARENT: str(os.getpid())}
    if threads is not None:
        env['OMP_NUM_THREADS'] = str(threads)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a') as stream:
        print('+', *command, file=stream, flush=True)
        child = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=env,
        )
    try:
        code = _wait(child, enough)
    finally:
        end(child)
    if code in _TOLD_TO_END:
        raise Interrupted(f'{Path(command[1]).name} was told to end')
    if code:
        raise Failed(
            f'{Path(command[1]).name} ended with {code}: {last_line(log)}'
        )


def _wait(child: subprocess.Popen, enough: Callable[[], bool]) -> int:
    while True:
        try:
            return child.wait(LOOK)
        except subprocess.TimeoutExpired:
            if enough():
                raise Cut from None


def end(child: subprocess.Popen) -> None:
    """Have a process ended, and wait for that."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def terminated_as_exit() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, where this thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def last_line(log: Path) -> str:
    """What a log says at the end; an error line if there is one."""
    lines = log.read_text(errors='replace').split('\n')
    start = max(
        (i for i, line in enumerate(lines) if line.startswith('+ ')),
        default=-1,
    )
    told = [line for line in lines[start + 1 :] if line.strip()]
    errors = [line for line in told if line.startswith('error: ')]
    line = (errors or told or ['it said nothing'])[-1]
    return f'{line.removeprefix("error: ")} ({log})'
