# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A whole config as the text of a file."""

import keyword
import math
import os
from typing import Any

from mmengine.config import Config

from hkd_mm.config.compose import Options, compose_config, load_config
from hkd_mm.errors import UserError

_WIDTH = 79
_ONE_LINE = -(10**9)  # columns used, so that everything fits


def print_config(
    config: str | os.PathLike, cfg_options: Options = None, data: bool = False
) -> None:
    """Print the config that would run; ``data`` reads what images decide."""
    read = load_config if data else compose_config
    print(config_text(read(config, cfg_options)), end='')


def config_text(cfg: Config) -> str:
    """Write a config as Python that ``Config.fromfile`` reads back equal."""
    lines = []
    for key, value in cfg._cfg_dict.items():
        if not _is_name(key) or key.startswith('__'):
            raise UserError(
                f'the top-level key {key!r} of {cfg.filename} is no Python '
                'name, so no config file can hold it; rename it'
            )
        lines.append(f'{key} = {_text(value, 0, len(key) + 3, key)}\n')
    return ''.join(lines)


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)


def _text(value: Any, indent: int, used: int, place: str) -> str:
    if not isinstance(value, (dict, list, tuple)):
        return _scalar(value, place)
    opened, closed, parts = _parts(value, place)
    flat = [prefix + _text(v, 0, _ONE_LINE, at) for prefix, v, at in parts]
    lone = ',' if isinstance(value, tuple) and len(flat) == 1 else ''
    line = opened + ', '.join(flat) + lone + closed
    if not flat or indent + used + len(line) <= _WIDTH:
        return line
    inner = indent + 4
    rows = [
        ' ' * inner + prefix + _text(v, inner, len(prefix) + 1, at) + ',\n'
        for prefix, v, at in parts
    ]
    return f'{opened}\n{"".join(rows)}{" " * indent}{closed}'


def _parts(value: dict | list | tuple, place: str):
    if not isinstance(value, dict):
        parts = [('', part, f'{place}.{index}') for index, part in enumerate(value)]
        return *('()' if isinstance(value, tuple) else '[]'), parts
    named = all(_is_name(key) for key in value)
    parts = [
        (f'{key}=' if named else f'{_scalar(key, place)}: ', part, f'{place}.{key}')
        for key, part in value.items()
    ]
    return ('dict(', ')', parts) if named else ('{', '}', parts)


def _scalar(value: Any, place: str) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    if type(value) is str:
        # mmengine replaces {{ name }} wherever it stands in a file
        return repr(value).replace('{{', '{\\x7b')
    raise UserError(
        f'{place}={value!r} is a {type(value).__name__}, which no config '
        'file can hold; write a registered name as text'
    )
