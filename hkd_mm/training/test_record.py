# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read what a test has left: nothing here imports torch."""

import os
from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from typing_extensions import TypedDict

from hkd_mm.errors import UserError
from hkd_mm.io.files import sha256
from hkd_mm.io.schema import read_as
from hkd_mm.io.tables import written_rows


class _Provenance(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra='allow')
    files: dict[str, str]  # name -> SHA-256 of what the same test wrote


class _Test(TypedDict, total=False):
    provenance: _Provenance


def read_predictions(path: str | os.PathLike) -> list[dict[str, str]]:
    """Rows of a ``predictions.csv``, by column name, as the test wrote them.

    It is refused if its hash is not that which the ``test.json`` beside it records.
    """
    path = Path(path)
    again = f'; write it again with: python tools/test.py {path.parent}'
    if not path.is_file():
        raise UserError(f'{path} is no file{again}')
    record = path.with_name(path.name.replace('predictions', 'test', 1))
    record = record.with_suffix('.json')
    if record.is_file():
        test = read_as(_Test, record, f'; move it away{again}')
        files = test.get('provenance', {}).get('files', {})
        if files.get(path.name, sha := sha256(path)) != sha:
            raise UserError(f'{path} is not whole as its test wrote it{again}')
    try:
        columns, *rows = [*written_rows(path)] or [[]]
    except UserError as error:
        raise UserError(f'{error}{again}') from None
    if not rows:
        raise UserError(f'{path} has no rows{again}')
    return [dict(zip(columns, row)) for row in rows]


def check_earlier(path: str, facts: dict[str, Any]) -> None:
    """Refuse to write over the figures of another test."""
    if not os.path.lexists(path):
        return
    way = '; give --out FILE.json, or move it away'
    earlier = read_as(_Test, path, way).get('provenance')
    if earlier is None:
        raise UserError(f'{path} does not record what it is of{way}')
    for name, value in facts.items():
        if earlier.get(name) != value:
            raise UserError(
                f'{path} is of another test ({name} was '
                f'{_short(earlier.get(name))}, is {_short(value)}){way}'
            )


def _short(value: Any) -> str:
    """A hash by its beginning."""
    return value[:8] if isinstance(value, str) and len(value) == 64 else str(value)
