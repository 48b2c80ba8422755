# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Files of a sweep, written whole; without a package that is slow to load.

Workers live as long as the trainings, and a light one leaves them the memory.
"""

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Put a file there at once; the folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'.{path.name}.{os.getpid()}.part')
    with aside.open('w', encoding='utf-8') as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """As :func:`write_text`; what JSON does not know becomes text."""
    write_text(path, json.dumps(value, indent=1, default=str) + '\n')


def read_json(path: Path) -> Any:
    """What a file holds, or None where there is none or half of one."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
