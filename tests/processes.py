# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Processes of a launcher and forks, waiting for others, and whether they ended."""

import gc
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from tiny import forget_runs

ROOT = Path(__file__).parents[1]


def launch(processes: int = 2) -> tuple[list[str], dict[str, str]]:
    """Command of Python or torchrun, and an environment without a GPU."""
    environment = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        'PYTHONPATH': os.pathsep.join(
            [str(ROOT), str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')]
        ),
    }
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR'):
        environment.pop(name, None)
    command = [sys.executable, '-W', 'ignore']
    if processes > 1:
        with socket.socket() as found:
            found.bind(('127.0.0.1', 0))
            port = found.getsockname()[1]
        command += ['-m', 'torch.distributed.run', f'--nproc_per_node={processes}']
        command += ['--master_addr=127.0.0.1', f'--master_port={port}']
    return command, environment


def run(folder: Path, *argv: str, processes: int = 2) -> str:
    """Run a script to its good end; what it prints."""
    command, environment = launch(processes)
    done = subprocess.run(
        [*command, *argv],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


class ForkedTool:
    """``child_processes.start`` without the seconds that a tool takes to import."""

    def __init__(self, command: list[str], stream: IO, env: dict[str, str]) -> None:
        self._process = fork(partial(self._run, command[1:], env), stream.name)

    @staticmethod
    def _run(argv: list[str], env: dict[str, str]) -> None:
        os.environ.update(env)
        sys.argv = argv
        runpy.run_path(argv[0], run_name='__main__')

    @property
    def returncode(self) -> int | None:
        """As the rest: that of ``subprocess.Popen``."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        self._process.join(seconds)
        if self._process.is_alive():
            raise subprocess.TimeoutExpired('tool', seconds)
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def fork(task: Callable[[], object], out: str | Path) -> multiprocessing.Process:
    """Run a task in a fork of this process, which costs no import.

    What is patched here is patched there.

    Args:
        task: the process ends with 0 after it, with 1 after an exception.
        out: what it prints is added to this file.
    """

    import mmpretrain.visualization  # noqa: F401, of forget_runs
    import torch

    def run_there() -> None:
        gc.freeze()
        code = 1
        try:
            sys.stdout = sys.stderr = stream = open(out, 'a', buffering=1)
            for number in (1, 2):
                os.dup2(stream.fileno(), number)
            torch.set_num_threads(1)  # a pool of threads is not forked
            forget_runs()
            task()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else bool(end.code)
        except BaseException:
            traceback.print_exc()
        finally:  # not through what this process would do at its exit
            os._exit(code)

    gc.collect()  # workers of loaders are of this process alone
    process = multiprocessing.get_context('fork').Process(target=run_there)
    process.start()
    return process


def die(pipe: Connection, job: object) -> None:
    """Begin as a worker of a timing, and end at the first turn."""
    pipe.send('')
    pipe.recv()


def wait_for(done: Callable[[], bool], seconds: float = 20) -> bool:
    """Look until something is so."""
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.05)
    return done()


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits to be reaped."""
    try:
        return ') Z ' in Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
