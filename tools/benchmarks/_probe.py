# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A hook that notes when a training gets somewhere, and how much it holds."""

import json
import os
import time
from pathlib import Path

import torch
from _common import machine
from _measure import tree_cpu_seconds
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class BenchmarkProbe(Hook):
    """Keep a JSON file up to date, after the first iteration and each epoch.

    It holds ``first_batch`` and ``first_iteration`` (the end of it), seconds since the
    epoch of the clock; ``epochs``, the seconds that training took in each, its images,
    and the CPU seconds that it took with its workers (None without ``/proc``);
    ``machine``; and ``gpu_bytes``, the most that torch had.

    Args:
        out: the file.
    """

    priority = 'LOWEST'

    def __init__(self, out: str) -> None:
        self.out = Path(out)
        self.found: dict = dict(epochs=[], machine=machine())

    def before_train_epoch(self, runner) -> None:
        """Start the clock of the epoch."""
        self._begun, self._cpu = _now(), tree_cpu_seconds(os.getpid())

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Note the first batch."""
        self.found.setdefault('first_batch', time.time())

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Note the end of the first iteration."""
        if 'first_iteration' not in self.found:
            self.found['first_iteration'] = _now()
            self._write()

    def after_train_epoch(self, runner) -> None:
        """Note the epoch."""
        loader = runner.train_dataloader
        images = len(loader) * loader.batch_size
        if not loader.drop_last:
            images = min(images, len(loader.dataset))
        cpu = tree_cpu_seconds(os.getpid())
        self.found['epochs'].append(
            dict(
                seconds=_now() - self._begun,
                images=images,
                cpu_seconds=cpu and cpu - self._cpu,
            )
        )
        self._write()

    def _write(self) -> None:
        if torch.cuda.is_available():
            self.found['gpu_bytes'] = torch.cuda.max_memory_allocated()
        part = self.out.with_suffix('.part')
        part.write_text(json.dumps(self.found))
        os.replace(part, self.out)


def _now() -> float:
    """The time, once the device has caught up."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.time()
