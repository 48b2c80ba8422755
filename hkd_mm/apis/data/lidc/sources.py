# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The DICOM and XML files below some folders."""

from collections.abc import Sequence
from pathlib import Path

from hkd_mm.errors import UserError

from .outlines import Readings, read_outlines

DICOM = ('.dcm', '.ima', '')


def find_readings(sources: list[str]) -> dict[str, Readings]:
    """XML files by the series that they are about.

    Raises:
        UserError: two different ones are about the same.
    """
    found = {}
    for path in find_files(sources, ('.xml',)):
        one = read_outlines(path)
        if one is None:
            continue
        first = found.setdefault(one.series_uid, one)
        if (
            first is not one
            and Path(first.path).read_bytes() != path.read_bytes()
        ):
            raise UserError(
                f'{first.path} and {path} are both about series '
                f'{one.series_uid}; remove one of them'
            )
    return found


def find_files(sources: list[str], suffixes: Sequence[str]) -> list[Path]:
    """Files with some suffixes, each once, in the order of their paths.

    Raises:
        UserError: a source does not exist.
    """
    found = []
    for source in sources:
        base = Path(source).expanduser()
        if not base.exists():
            raise UserError(f'{source} does not exist')
        found += [base] if base.is_file() else base.rglob('*')
    fitting = sorted(
        path
        for path in found
        if path.suffix.lower() in suffixes
        and not path.name.startswith('.')
        and path.is_file()
    )
    # sources may lie in each other, or link to each other
    once: dict[Path, Path] = {}
    for path in fitting:
        once.setdefault(path.resolve(), path)
    return list(once.values())
