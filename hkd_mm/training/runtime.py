# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What training and testing set up alike: device, precision, hooks."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import utils
from mmengine.dist import get_world_size, is_main_process

from hkd_mm.engine.distributed import init_process_group
from hkd_mm.engine.memory import tune_malloc
from hkd_mm.errors import UserError
from hkd_mm.io.locks import as_rank_0, has_locks, holder, locked


def choose_device(cfg: Config) -> str:
    """Settle on ``cpu`` or ``cuda`` and make mmengine use it."""
    asked = cfg.get('device', 'auto')
    found = torch.cuda.is_available()
    if asked == 'cuda' and not found:
        raise UserError(
            'device=cuda: no GPU is to be seen here; set --cfg-options device=auto, or '
            'look at nvidia-smi and CUDA_VISIBLE_DEVICES'
        )
    device = 'cuda' if found and asked != 'cpu' else 'cpu'
    utils.DEVICE = device  # what get_device() answers
    if device == 'cpu':
        tune_malloc()
    return device


def set_up_processes(cfg: Config, launcher: str, device: str) -> None:
    """Join the other processes and choose the model wrapper."""
    cfg.launcher = launcher
    if launcher == 'none':
        return
    init_process_group(
        launcher, device, **(cfg.get('env_cfg') or {}).get('dist_cfg', {})
    )
    if device == 'cpu' and cfg.get('model_wrapper_cfg') is None:
        cfg.model_wrapper_cfg = dict(
            type='hkd_mm.CPUDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
    if device == 'cpu' and cfg.get('sync_bn'):
        raise UserError('sync_bn works on GPUs only; leave it out on CPUs')


def precision(device: str) -> tuple[str, str]:
    """The type that ``--amp`` uses here, and what to tell the user of it."""
    if device != 'cuda':
        raise UserError(
            '--amp needs a GPU and there is none in use; leave --amp out on a CPU'
        )
    if torch.cuda.get_device_capability()[0] >= 8:
        return 'bfloat16', 'bf16, no loss scaling'
    return 'float16', 'fp16 with loss scaling, this GPU has no bf16'


def use_amp(cfg: Config, device: str) -> str:
    """Switch the optimizer wrapper to mixed precision; what to tell the user."""
    dtype, message = precision(device)
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    known = kind in ('OptimWrapper', 'AmpOptimWrapper')
    if not known or 'optimizer' not in cfg.optim_wrapper:
        raise UserError(
            f'--amp cannot change optim_wrapper.type={kind!r} or several optimizers; '
            'leave --amp out'
        )
    cfg.optim_wrapper.update(
        type='AmpOptimWrapper',
        dtype=dtype,
        loss_scale=dict(enabled=False) if dtype == 'bfloat16' else 'dynamic',
    )
    return message


def default_work_dir(config: str, given: str | None, cfg: Config) -> str:
    """Command line before config before ``work_dirs/<name of the config>``."""
    return given or cfg.get('work_dir') or os.path.join('work_dirs', Path(config).stem)


def make_work_dir(path: str, option: str = '--work-dir') -> None:
    """Make the folder now, so that a bad place is told before any work."""
    reason = None
    try:
        os.makedirs(path, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        reason = 'is a file'
    except OSError as error:
        reason = f'cannot be made ({error.strerror})'
    if not reason and not os.access(path, os.W_OK):
        reason = 'is not writable'
    if reason:
        raise UserError(f'folder {path[:200]} {reason}; give another {option}')


@contextmanager
def hold_work_dir(path: str) -> Iterator[None]:
    """Keep other trainings out of a work dir; rank 0 holds the lock for all."""
    make_work_dir(path)
    folder = Path(path)
    with ExitStack() as stack:
        by = None
        if is_main_process():
            if not has_locks(folder):
                print(
                    f'WARNING: the file system of {path} has no locks, so a '
                    'second training in this work dir would not be refused',
                    flush=True,
                )
            for _ in range(2):  # who looks at the lock has it for a moment
                if stack.enter_context(locked(folder, wait=False)):
                    break
                time.sleep(0.05)
            else:
                by = holder(folder)
        by = as_rank_0(by)
        if by is not None:
            raise UserError(
                f'work dir {path} is in use by another training ({by}); wait '
                'for its end, or give another --work-dir'
            )
        yield


def describe_device(device: str) -> str:
    """Name of the device and how many processes share the work."""
    name = f'CPU ({torch.get_num_threads()} threads)'
    if device == 'cuda':
        name = torch.cuda.get_device_name()
    many = get_world_size()
    return f'{many} x {name}' if many > 1 else name
