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
import traceback
from collections.abc import Callable
from typing import Any

from hkd_mm import check_versions
from hkd_mm.errors import UserError
from hkd_mm.io.processes import die_with_parent, terminated_as_exit

USER_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143
PARENT = 'HKD_MM_PARENT'  # process that a tool is to end with

# OSErrors with more to say than their own words.
_DISK = {
    errno.ENOSPC: 'the disk is full; make room, or give another --work-dir',
    errno.EDQUOT: 'the disk quota is used up; make room, or give another --work-dir',
    errno.EACCES: 'permission denied; give a place you may write to',
    errno.EROFS: 'the file system is read-only; give another --work-dir',
    errno.ENOMEM: 'the memory is full; lower batch_size or num_workers',
}
_UNREGISTERED = re.compile(r'(\S+) is not in the (\S+ )?registry')


def run_tool(work: Callable[..., Any] | str, *args, **kwargs) -> int:
    """Call a tool's work, or ``module:function``, and turn errors into an exit code.

    Returns:
        0, or 2 after a mistake of the user (one ``error:`` line on stderr),
        130 after Ctrl-C, or 143 after SIGTERM. Our own defects keep their traceback.
    """
    # A log file on a full disk must not print one traceback a message.
    logging.raiseExceptions = False
    for stream in (sys.stdout, sys.stderr):  # names may be of any bytes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    # a study names itself: none of its trainings is to write after it was killed
    if parent := os.environ.pop(PARENT, None):
        die_with_parent(int(parent))
    with terminated_as_exit() as received:
        code = _exit_code(received, work, *args, **kwargs)
    distributed = sys.modules.get('hkd_mm.engine.distributed')
    if distributed is not None:
        distributed.end_process(code)
    return code


def _exit_code(received: list, work: Callable[..., Any] | str, *args, **kwargs) -> int:
    try:
        os.getcwd()  # libraries that load others die without one
        if isinstance(work, str):
            try:
                if kwargs.get('config') and kwargs.get('cfg_options'):
                    from hkd_mm.config.compose import check_early

                    check_early(kwargs['config'], kwargs['cfg_options'])
                work = _imported(work)
            except ImportError as error:  # of a package missing, or another version
                try:
                    check_versions()
                except ImportError as reason:
                    raise UserError(str(reason)) from error
                raise
        work(*args, **kwargs)
    except BaseException as error:
        if received or isinstance(error, KeyboardInterrupt):
            _print_error(
                f'{"terminated" if received else "interrupted"}; the same command goes '
                'on where it was, that of train.py with --resume'
            )
            return TERMINATED if received else INTERRUPTED
        line = user_line(error) if isinstance(error, Exception) else None
        if line is None:
            raise
        _print_error(f'error: {line}')
        return USER_ERROR
    return 0


def _imported(name: str) -> Callable[..., Any]:
    """Import ``module:function``.

    Looking for garbage among what stays is a quarter of the time that it takes.
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
            raw = str(link.args[0]) if link.args else ''
            of_worker = 'UserError: ' in raw  # its traceback, the message at its end
            return _clean(raw) if of_worker else _clean(str(link))
    found = filter(None, [*map(_known, chain), *map(_refused, chain)])
    return next(found, None)


def _clean(text: str) -> str:
    """Strip what workers and registries put around a message."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    line = lines[-1].strip() if lines else 'no message'
    line = re.sub(r'^(class )?`?\w+`? in [\w./]+\.py: ', '', line)
    return re.sub(r'^(\w+\.)*UserError: ', '', line)


def _known(error: BaseException) -> str | None:
    text = str(error)
    if isinstance(error, FileNotFoundError) and not error.filename:
        return 'the current folder was deleted; go to one that exists'
    if isinstance(error, OSError) and error.errno in _DISK and not error.filename:
        return _DISK[error.errno]
    if isinstance(error, OSError) and error.errno and error.filename:
        reason = _DISK.get(error.errno, f'{error.strerror}; give another path')
        return f'{_shown(error.filename)}: {reason}'
    if isinstance(error, MemoryError):
        return f'the memory is full ({text or "no reason given"}); ask for less'
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
            f'type "{name}" of the config is not registered; check the spelling, and '
            "write hkd_mm.X or mmrazor.X for what is not mmpretrain's"
        )
    return None


def _refused(error: BaseException) -> str | None:
    """What a package upstream says of a config, built or in the first step."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [frame.f_globals.get('__name__', '') for frame in frames]
    ours = not names or names[-1].startswith('hkd_mm.')
    if ours and 'unexpected keyword argument' not in str(error):
        return None
    place = None
    for frame, name in zip(frames, names):
        within, seen = frame.f_code.co_name, frame.f_locals
        if name == 'mmengine.registry.build_functions':
            if isinstance(seen.get('cfg'), dict):
                place = f'type={seen["cfg"].get("type")} of the config cannot be built'
        elif name == 'mmengine.runner.runner' and within.startswith(('build_', '__in')):
            place = 'the config does not fit together'
        elif name == 'mmengine.runner.runner' and within == 'train':
            if seen['self'].iter == 0:
                place = 'the training fails in its first step, look at the config'
    reason = _shown(' '.join(str(error).split()).strip('"'))
    return place and f'{place}: {type(error).__name__}: {reason}'


def _shown(text: Any) -> str:
    """A text, shortened."""
    text = str(text)
    return text if len(text) <= 300 else f'{text[:297]}...'


def _print_error(line: str) -> None:
    rank = os.environ.get('RANK', os.environ.get('SLURM_PROCID'))
    many = int(os.environ.get('WORLD_SIZE', '1')) > 1
    prefix = f'[rank {rank}] ' if many and rank is not None else ''
    sys.stdout.flush()
    line = ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    print(prefix + line, file=sys.stderr, flush=True)
