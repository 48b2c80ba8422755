# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A data root of generated images: whole, or known to be unfinished."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.unfinished import being_written, half_made

_MARK = 'demo.json'
_TOOL = 'the tool of demo images'


@contextmanager
def building(root: Path, made_by: dict) -> Iterator[bool]:
    """Make a data root, or find that it is there.

    Args:
        root: made when missing.
        made_by: settings that decide every pixel.

    Yields:
        Whether the block is to fill it; False where this very set is there.

    Raises:
        UserError: it holds anything else.
    """
    if _holds(root, made_by):
        yield False
        return
    with being_written(root, _TOOL):
        yield True
        (root / _MARK).write_text(json.dumps(made_by) + '\n')


def _holds(root: Path, made_by: dict) -> bool:
    """Whether this very set is there; refuse to write over anything else."""
    mark = root / _MARK
    if mark.exists():
        if json.loads(mark.read_text()) == made_by:
            return True
        raise UserError(
            f'{root} holds other demo images; remove it or name '
            'another place with --out'
        )
    if root.exists() and any(root.iterdir()) and half_made(root) != _TOOL:
        raise UserError(
            f'{root} is not empty and holds no demo images; name '
            'another place with --out'
        )
    return False
