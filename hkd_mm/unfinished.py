# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Data roots that are being written, and those left half made."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MARK = '.unfinished'


@contextmanager
def being_written(root: Path, by: str) -> Iterator[None]:
    """Mark a folder until the block has come to its end.

    Whatever ends the block otherwise, a kill included, leaves the mark, and
    data sets refuse the folder.

    Args:
        root: made when missing.
        by: the tool that writes.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / _MARK).write_text(by)
    yield
    (root / _MARK).unlink()


def half_made(root: Path) -> str | None:
    """The tool that is writing a folder, or left it half made."""
    mark = root / _MARK
    return mark.read_text() if mark.exists() else None
