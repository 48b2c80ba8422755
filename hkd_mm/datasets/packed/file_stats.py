# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What tells whether a source file has changed."""

import os
from collections.abc import Sequence
from pathlib import Path

from hkd_mm.errors import UserError


def stats(paths: Sequence[str | None], root: str) -> tuple[tuple, ...]:
    """Names below a root, sizes and times of files; None for no file.

    Raises:
        UserError: a file is not there.
    """
    found = [None if path is None else _stat(path) for path in paths]
    return (
        tuple(None if path is None else _below(path, root) for path in paths),
        tuple(None if stat is None else stat.st_size for stat in found),
        tuple(None if stat is None else stat.st_mtime_ns for stat in found),
    )


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
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return path
