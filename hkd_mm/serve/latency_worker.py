# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Time one network in one runtime, in a process of its own.

Imports torch only where the runtime is torch, so that the memory of the
others is what a program without it needs.
"""

import resource
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

RUNTIMES = ('eager', 'compiled', 'onnx', 'int8')
_WARM_UP = 3


@dataclass(frozen=True)
class Job:
    """What a worker times.

    Attributes:
        network: name of the network.
        runtime: one of ``RUNTIMES``.
        file: ``.onnx``; for torch a ``student.pth`` or a config, whose
            weights are then random.
        batch: images at once.
        threads: of the operators.
        size: (H, W) of an image in pixels.
    """

    network: str
    runtime: str
    file: str
    batch: int
    threads: int
    size: tuple[int, int]


def work(pipe: Connection, job: Job) -> None:
    """Answer each ``(seconds, calls)`` with times, until ``None`` comes.

    Sends an empty text first, or why it cannot begin; the peak memory of the
    process in bytes last.
    """
    try:
        call = _load(job)
        for _ in range(_WARM_UP):
            call()
    except Exception as error:  # shown in the table of the parent
        traceback.print_exc()
        pipe.send(f'{type(error).__name__}: {error}')
        return
    pipe.send('')
    while (request := pipe.recv()) is not None:
        pipe.send(_time(call, *request))
    pipe.send(_peak_memory())


def _time(
    call: Callable[[], object], seconds: float, calls: int
) -> list[float]:
    """Seconds of each call, at least so many and for at least so long."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < calls or time.perf_counter() < end:
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times


def _load(job: Job) -> Callable[[], object]:
    def noise(channels: int) -> np.ndarray:
        shape = (job.batch, channels, *job.size)
        return np.random.default_rng(0).standard_normal(shape, np.float32)

    if job.runtime in ('onnx', 'int8'):
        from hkd_mm.inference.onnx_backend import OnnxBackend

        network = OnnxBackend(job.file, job.threads)
        images = noise(network.channels)
        return lambda: network.logits(images)
    import torch

    torch.set_num_threads(job.threads)
    network = load_network(job.file)
    batch = torch.from_numpy(noise(getattr(network, 'in_channels', 3)))
    if job.runtime == 'compiled':
        network = torch.compile(network, dynamic=False)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return network(batch, mode='tensor')

    return call


def load_network(file: str):
    """Build a network in evaluation, of a ``student.pth`` or a config."""
    if Path(file).suffix == '.pth':
        from hkd_mm.engine.student_loading import load_student

        return load_student(file)[0]
    from mmengine.registry import init_default_scope

    from hkd_mm.config.compose import compose_config
    from hkd_mm.engine.student_export import student_config
    from hkd_mm.registry import MODELS

    init_default_scope('mmpretrain')
    return MODELS.build(student_config(compose_config(file).model)).eval()


def _peak_memory() -> int:
    """Largest resident memory that this process had, in bytes."""
    try:  # Linux counts in ru_maxrss what the parent had before exec
        with open('/proc/self/status') as status:
            for line in status:
                if line.startswith('VmHWM:'):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
