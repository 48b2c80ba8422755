# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Several processes, also without a GPU, and their random numbers.

mmengine's ``init_dist`` calls ``torch.cuda.set_device`` and its model wrapper
is given ``device_ids``: both fail on a CPU. Here the gloo group is made
before the Runner, which then skips its own, and the wrapper drops the ids.

Gradients are averaged over the processes. BatchNorm takes the statistics of its own
process, unless the config says ``sync_bn='torch'`` (GPUs only, a limit of torch); the
checkpoint holds the running ones of rank 0.
"""

import atexit
import gc
import os
import random
import subprocess
import sys

import numpy as np
import torch
from mmengine.dist import get_rank, init_dist
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.io.processes import die_with_parent
from hkd_mm.registry import FUNCTIONS, HOOKS, MODEL_WRAPPERS

_joined: list[str] = []  # launchers of the groups of this process
# names of RANK, WORLD_SIZE and LOCAL_RANK
_NAMES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')
_VARIABLES = dict(
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    mpi=tuple(f'OMPI_COMM_WORLD_{name}' for name in ('RANK', 'SIZE', 'LOCAL_RANK')),
    pytorch=_NAMES,
)


@MODEL_WRAPPERS.register_module()
class CPUDistributedDataParallel(MMDistributedDataParallel):
    """``MMDistributedDataParallel`` without the ``device_ids`` that mmengine passes."""

    def __init__(
        self, module: nn.Module, device_ids: list[int] | None = None, **kwargs
    ) -> None:
        del device_ids
        super().__init__(module=module, **kwargs)


def init_process_group(launcher: str, device: str, **kwargs) -> None:
    """Join the processes of a launcher; on ``device='cpu'`` through gloo.

    On GPUs mmengine makes the NCCL group, with ``env_cfg.dist_cfg`` as ``kwargs``.

    Raises:
        UserError: the launcher's environment is missing, or there are more
            processes on this machine than GPUs.
    """
    if launcher == 'none' or torch.distributed.is_initialized():
        return
    _read_environment(launcher)
    if launcher == 'pytorch':  # Slurm and MPI end the processes of a job themselves
        die_with_parent()
    if device == 'cuda':
        local, count = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
        if local >= count:
            raise UserError(
                f'process {local} of this machine has no GPU of its own (there are '
                f'{count}); start at most {count} processes here'
            )
        init_dist(launcher, **kwargs)
    else:
        torch.distributed.init_process_group('gloo')
    _joined.append(launcher)
    atexit.register(_leave_process_group)


def _leave_process_group() -> None:
    """End gloo's threads before the interpreter aborts on them, after finished work."""
    gc.collect()  # models that hold the group
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def end_process(code: int) -> None:
    """End a process that has joined others; return where it has not.

    What is registered at exit runs, but the interpreter is not taken down: threads of
    gloo that are alive then would abort the process, and the launcher call it failed.
    """
    if not _joined:
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _read_environment(launcher: str) -> None:
    for name, source in zip(_NAMES, _VARIABLES[launcher]):
        if source not in os.environ:
            raise UserError(
                f'--launcher {launcher}: {source} is not set; start through '
                'tools/dist_train.sh, tools/slurm_train.sh or mpirun'
            )
        os.environ[name] = os.environ[source]
    os.environ.setdefault('MASTER_PORT', '29500')
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.run(
            ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split()
        if hosts:
            os.environ['MASTER_ADDR'] = hosts[0]
    if 'MASTER_ADDR' not in os.environ:
        raise UserError('MASTER_ADDR is not set; set it to the host of rank 0')


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seed Python, NumPy and torch before each training epoch.

    mmengine seeds once per run and stores no generator state; its worker seeds are the
    same in every epoch. Here the seed of an epoch is a function of (seed, epoch, rank),
    so that a resumed run draws what the uninterrupted one would; workers derive theirs
    from it through :func:`seed_worker`.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner) -> None:
        loader = runner.train_dataloader
        if loader.persistent_workers:  # they would draw on from the last epoch
            if runner.iter == 0:
                runner.logger.info(
                    'train_dataloader.persistent_workers=True: workers begin anew '
                    'every epoch, or a resumed run would draw other augmentations'
                )
            loader._iterator = None
        sequence = np.random.SeedSequence((runner.seed, runner.epoch, get_rank()))
        _seed_everything(int(sequence.generate_state(1, np.uint64)[0]) >> 1)


@FUNCTIONS.register_module()
def seed_worker(worker_id: int, **kwargs) -> None:
    """Seed a loader worker from the number that torch drew for it in this epoch.

    What mmengine passes on is constant over the epochs and therefore not used.
    """
    _seed_everything(torch.initial_seed())
