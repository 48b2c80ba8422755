# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Files that a training leaves in its work dir."""

import re
from pathlib import Path

from hkd_mm.errors import UserError


def run_config(folder: Path) -> Path:
    """The whole config that lies in a work dir.

    Raises:
        UserError: there is none, or it is not known which of several.
    """
    found = sorted(folder.glob('*.py'))
    if len(found) != 1:
        raise UserError(
            f'{folder} holds {len(found)} configs; the work dir of a '
            'training holds one'
        )
    return found[0]


def is_old(name: str) -> bool:
    """Whether a study set the folder of this name aside to train it again."""
    return bool(re.search(r'_stale\d+(/|$)', name))
