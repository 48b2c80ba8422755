#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Names the new place of a tool; its old places link here for one release."""

import sys
from pathlib import Path

MOVED = {
    'dataset_tools': 'data',
    'analysis_tools': '',
    'analysis_tools/zoo_table.py': 'dev',
}


def new_place(old: Path) -> str:
    """Where a tool is now, below ``tools``."""
    folder = old.parent.name
    room = MOVED.get(f'{folder}/{old.name}', MOVED[folder])
    return str(Path('tools', room, old.name))


if __name__ == '__main__':
    old = Path(sys.argv[0])
    print(
        f'error: tools/{old.parent.name}/{old.name} has moved; run '
        f'python {new_place(old)}',
        file=sys.stderr,
    )
    sys.exit(2)
