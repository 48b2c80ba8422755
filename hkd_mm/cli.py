# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How a tool ends: one line for a mistake, a traceback for a defect."""

import errno
import gc
import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hkd_mm import check_versions
from hkd_mm.errors import UserError
from hkd_mm.io.progress import end_with_parent

USER_ERROR = 2
INTERRUPTED = 130
PARENT = 'HKD_MM_PARENT'  # process that a tool is to end with

# OSErrors that the user can fix; others keep their traceback.
_DISK = {
    errno.ENOSPC: 'the disk is full; make room, or give another --work-dir',
    errno.EDQUOT: 'the disk quota is used up; make room, or give another --work-dir',
    errno.EACCES: 'permission denied; give a place you may write to',
    errno.EROFS: 'the file system is read-only; give another --work-dir',
}
_UNREGISTERED = re.compile(r'(\S+) is not in the (\S+ )?registry')


def run_tool(work: Callable[..., Any] | str, *args, **kwargs) -> int:
    """Call a tool's work and turn what went wrong into an exit code.

    Args:
        work: a function, or ``module:function`` to import it first; what it
            returns is dropped.
        args: passed on.
        kwargs: passed on; ``cfg_options`` for a ``config`` are checked before
            the import.

    Returns:
        0, or 2 after a mistake of the user (one ``error:`` line on stderr),
        or 130 after Ctrl-C. Our own defects keep their traceback.
    """
    # A log file on a full disk must not print one traceback a message.
    logging.raiseExceptions = False
    for stream in (sys.stdout, sys.stderr):  # names may be of any bytes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    _stay_with_parent()
    code = _exit_code(work, *args, **kwargs)
    distributed = sys.modules.get('hkd_mm.engine.distributed')
    if distributed is not None:
        distributed.end_process(code)
    return code


def _exit_code(work: Callable[..., Any] | str, *args, **kwargs) -> int:
    try:
        if isinstance(work, str):
            with _named_versions():
                if kwargs.get('config') and kwargs.get('cfg_options'):
                    from hkd_mm.config.early_check import check_early

                    check_early(kwargs['config'], kwargs['cfg_options'])
                work = _imported(work)
        work(*args, **kwargs)
    except KeyboardInterrupt:
        _print_error(
            'interrupted; the same command goes on where it was, that of '
            'train.py with --resume'
        )
        return INTERRUPTED
    except Exception as error:
        line = user_line(error)
        if line is None:
            raise
        _print_error(f'error: {line}')
        return USER_ERROR
    return 0


@contextmanager
def _named_versions() -> Iterator[None]:
    """Tell of a package that is missing, or has another version, in a line."""
    try:
        yield
    except ImportError as error:
        try:
            check_versions()
        except ImportError as reason:
            raise UserError(str(reason)) from error
        raise


def _imported(name: str) -> Callable[..., Any]:
    """Import ``module:function``.

    The imports make hundreds of thousands of objects that stay: looking for
    garbage among them is a quarter of the time they take, and goes on later.
    """
    module, function = name.split(':')
    if module in sys.modules:
        return getattr(sys.modules[module], function)
    enabled = gc.isenabled()
    gc.disable()
    try:
        return getattr(importlib.import_module(module), function)
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def _stay_with_parent() -> None:
    """On Linux end with the process that started this tool, if it asked.

    A study names itself in the environment, so that none of its trainings
    goes on writing after it was killed.
    """
    parent = os.environ.pop(PARENT, None)
    if parent is None:
        return
    end_with_parent()
    if os.getppid() != int(parent):
        raise SystemExit(f'the process {parent} that started this has ended')


def user_line(error: BaseException) -> str | None:
    """The one line for a mistake of the user, None for a defect of ours.

    A ``UserError`` is found directly, behind ``raise ... from``, as the context of
    another exception, and as the text that a loader worker or a registry made of it.
    """
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    for link in chain:
        if isinstance(link, UserError):
            return _clean(str(link))
    return next(filter(None, map(_known, chain)), None)


def _clean(text: str) -> str:
    """Strip what workers and registries put around a message."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    line = lines[-1].strip() if lines else 'no message'
    line = re.sub(r'^(class )?`?\w+`? in [\w./]+\.py: ', '', line)
    return re.sub(r'^(\w+\.)*UserError: ', '', line)


def _known(error: BaseException) -> str | None:
    text = str(error)
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f'{error.filename}: ' if error.filename else ''
        return where + _DISK[error.errno]
    if 'errors.UserError: ' in text:  # inside the text of a worker
        return _clean(text.rsplit('errors.UserError: ', 1)[1].split('\n')[0])
    if type(error).__name__ == 'OutOfMemoryError':
        return (
            'the GPU memory is full; lower batch_size with --cfg-options batch_size=N'
        )
    if isinstance(error, RuntimeError) and 'No space left' in text:
        return _DISK[errno.ENOSPC]
    if isinstance(error, KeyError) and _UNREGISTERED.search(text):
        name = _UNREGISTERED.search(text).group(1).strip('"\'')
        return (
            f'type "{name}" of the config is not registered; check the '
            'spelling, and write hkd_mm.X or mmrazor.X for what is not '
            "mmpretrain's"
        )
    return None


def _print_error(line: str) -> None:
    rank = os.environ.get('RANK', os.environ.get('SLURM_PROCID'))
    many = int(os.environ.get('WORLD_SIZE', '1')) > 1
    prefix = f'[rank {rank}] ' if many and rank is not None else ''
    sys.stdout.flush()
    print(prefix + line, file=sys.stderr, flush=True)
