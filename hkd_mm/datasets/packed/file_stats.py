# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What tells whether a source file has changed."""

import os
from collections.abc import Sequence

from hkd_mm.errors import UserError


def stats(paths: Sequence[str | None], root: str) -> tuple[tuple, ...]:
    """Names below a root, sizes and times of files; None for no file.

    Raises:
        UserError: a file is not there.
    """
    names, sizes, times = [], [], []
    for path in paths:
        stat = None if path is None else _stat(path)
        names.append(None if path is None else _below(path, root))
        sizes.append(None if stat is None else stat.st_size)
        times.append(None if stat is None else stat.st_mtime_ns)
    return tuple(names), tuple(sizes), tuple(times)


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise UserError(
            f'image {path} cannot be read ({error.strerror}); replace or '
            'remove it'
        ) from None


def _below(path: str, root: str) -> str:
    path = os.path.abspath(path)
    start = os.path.join(root, '')
    return path[len(start) :] if path.startswith(start) else path
