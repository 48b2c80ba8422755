# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What every model card says, in a report and beside an exported net."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

LICENCE = (
    'code under Apache-2.0; weights and pictures stand under the terms of the '
    'images they were made from (HAM10000 and ISIC 2019: CC BY-NC 4.0; '
    'LIDC-IDRI: CC BY 3.0): look up those of your data'
)
INTENDED_USE = (
    'research on knowledge distillation for medical images. No diagnostic '
    'device: not validated for any clinical use, on any other '
    'camera, population or prevalence; no decision on a patient may rest on '
    'it.'
)


def environment_of(folder: Path) -> dict:
    """``environment.json`` of a run; empty where it cannot be read."""
    try:
        text = (folder / 'environment.json').read_text(encoding='utf-8')
        return json.loads(text)
    except (OSError, ValueError):
        return {}


def command_of(environment: dict) -> str:
    """What the run was started with, without the folders of its machine."""
    words = without_places(environment.get('command') or [])
    return shlex.join(['python', *words]) if words else 'unknown'


def without_places(words: Sequence[object]) -> list[str]:
    """Words of a command line; of absolute paths what others know, too."""
    kept = []
    for word in map(str, words):
        key, equals, value = word.rpartition('=')
        kept.append(f'{key}{equals}{_short(value)}')
    return kept


def _short(path: str) -> str:
    if not path.startswith('/'):
        return path
    parts = Path(path).parts
    for root in ('tools', 'configs'):
        if root in parts:
            return '/'.join(parts[parts.index(root) :])
    return f'.../{Path(path).name}'


def versions_of(environment: dict) -> str:
    """Packages and machine of a run, in one line."""
    if not environment:
        return 'unknown'
    told = {key: environment.get(key) for key in ('hkd_mm', 'python')}
    told.update(environment.get('packages') or {})
    text = ', '.join(f'{key} {value}' for key, value in told.items() if value)
    where = environment.get('gpus') or [environment.get('cpu')]
    return f'{text}; on {", ".join(str(one) for one in where)}'
