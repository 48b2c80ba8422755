# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hash files, read small JSON files, write files that are whole or absent."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_DEEPEST = 100  # brackets within brackets; our files have five


def sha256(path: str | os.PathLike) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def read_json(path: str | os.PathLike, **options) -> Any:
    """Read a JSON file whose author may be anybody.

    Nesting that the parser's stack might not bear is refused: Python's own
    guard depends on a limit that other packages raise.

    Args:
        path: of a small file.
        options: of ``json.loads``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or nested too deeply.
    """
    data, depth = Path(path).read_bytes(), 0
    for byte in data:
        depth += (byte in b'[{') - (byte in b']}')
        if depth > _DEEPEST:
            raise ValueError('nested too deeply')
    return json.loads(data, **options)


def read_record(path: str | os.PathLike) -> dict[str, Any]:
    """Read a JSON object; empty where the file is absent or damaged."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def replacing(path: Path, mode: str = 'wb', **options) -> Iterator[IO]:
    """Open a file that takes its name when the block has ended well.

    Args:
        path: final name; an existing file stays as it is until then.
        mode: of ``open``.
        options: of ``open``.
    """
    aside = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with open(aside, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
