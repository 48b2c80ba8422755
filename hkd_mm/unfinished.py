# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Data roots that are being written, and those left half made."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MARK = '.unfinished'


@contextmanager
def being_written(root: Path) -> Iterator[None]:
    """Mark a folder until the block has come to its end.

    Whatever ends the block otherwise, a kill included, leaves the mark, and
    data sets refuse the folder.

    Args:
        root: made when missing.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / _MARK).touch()
    yield
    (root / _MARK).unlink()


def half_made(root: Path) -> bool:
    """Whether a folder is being written, or was left half made."""
    return (root / _MARK).exists()
