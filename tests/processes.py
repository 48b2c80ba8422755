# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Processes of a launcher, waiting for others, and whether they have ended."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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
