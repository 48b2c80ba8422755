# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``manifest.json``: what is known of an exported student."""

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest_fields import (
    FILE,
    MANIFESTS,
    FileSpec,
    Manifest,
    Threshold,
)
from hkd_mm.io.input_spec import InputSpec

KINDS = ('fp32', 'int8', 'fp32_image', 'int8_image', 'executorch', 'torch')

Rule = tuple[str, Callable[[Any], bool]]


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _list_of(count: int, item: Callable[[Any], bool]) -> Callable:
    def fits(value: Any) -> bool:
        right = isinstance(value, list) and len(value) == count
        return right and all(map(item, value))

    return fits


def _channels(item: Callable[[Any], bool]) -> Callable:
    return lambda value: any(_list_of(n, item)(value) for n in (1, 3))


def _names(value: Any) -> bool:
    right = isinstance(value, list) and len(value) > 1
    return right and all(map(_text, value)) and len(set(value)) == len(value)


def _file_name(value: Any) -> bool:
    """A plain name: nothing outside of the folder is ever opened."""
    return _text(value) and not re.search(r'[/\\:]', value) and value[0] != '.'


def _one_of(*values: Any) -> Rule:
    return ' or '.join(map(repr, values)), lambda value: value in values


_DICT: Rule = ('an object', lambda value: isinstance(value, dict))
_STRING: Rule = ('a text', _text)
_COUNT: Rule = ('a whole number, 0 or more', _whole)
_SHARE: Rule = ('a number in [0, 1]', _share)

_TOP: dict[str, Rule] = dict(
    format=_STRING,
    format_version=_COUNT,
    hkd_mm=_STRING,
    created=_STRING,
    name=_STRING,
    architecture=_STRING,
    parameters=_COUNT,
    classes=('a list of two or more different names', _names),
    input=_DICT,
    files=('an object with a file', lambda v: isinstance(v, dict) and v),
    split_hash=('a text or null', lambda v: v is None or _text(v)),
    source=_DICT,
    metrics=_DICT,
    checks=_DICT,
    calibration_images=_COUNT,
    licence=_STRING,
    notice=_STRING,
)
_TASK = dict(task=_one_of('classification', 'segmentation'))
_OF_TASK: dict[str, dict[str, Rule]] = dict(
    classification=dict(
        temperature=('a number above 0', _positive),
        threshold=_DICT,
    ),
    segmentation=dict(
        threshold=(
            'a number between 0 and 1',
            lambda v: _share(v) and 0 < v < 1,
        ),
    ),
)
_INPUT: dict[str, Rule] = dict(
    size=(
        'two whole numbers above 0',
        _list_of(2, lambda v: _whole(v) and v > 0),
    ),
    resize=_one_of('area'),
    colour=_one_of('RGB', 'grey'),
    mean=('three numbers, or one of grey images', _channels(_number)),
    std=('as many numbers above 0 as mean', _channels(_positive)),
    bits=_one_of(8, 16),
    window=(
        'a centre and a width above 0, or null',
        lambda v: v is None or (_list_of(2, _number)(v) and v[1] > 0),
    ),
)
_THRESHOLD: dict[str, Rule] = dict(
    probability=(
        'a number in [0, 1] or null',
        lambda v: v is None or _share(v),
    ),
    rule=_STRING,
    coverage=_SHARE,
    accuracy=_SHARE,
    n=_COUNT,
)
_FILE: dict[str, Rule] = dict(
    path=('a name of a file in the folder', _file_name),
    sha256=(
        'a SHA-256 in hexadecimal',
        lambda v: _text(v) and re.fullmatch('[0-9a-f]{64}', v),
    ),
    bytes=_COUNT,
    takes=_one_of('tensor', 'image'),
    gives=_one_of('logits', 'probabilities'),
)


def check(
    data: Any, where: str | os.PathLike, form: str, version: int
) -> None:
    """Hold a manifest against the rules.

    Args:
        data: the file's content.
        where: named in errors.
        form: what ``format`` must be.
        version: what ``format_version`` must be.

    Raises:
        UserError: the first key that is missing, unknown or wrong.
    """
    if not isinstance(data, dict) or data.get('format') != form:
        raise UserError(f'{where} is no manifest of {form} (key "format")')
    if data.get('format_version') != version:
        raise UserError(
            f'{where} has format_version {data.get("format_version")!r}, this '
            f'hkd_mm reads {version}; use the hkd_mm that wrote it '
            f'({data.get("hkd_mm", "unknown")}) or export again'
        )
    _check({k: data[k] for k in data if k in _TASK}, _TASK, where, '')
    task = data['task']
    _check(data, {**_TASK, **_TOP, **_OF_TASK[task]}, where, '')
    _check(data['input'], _INPUT, where, 'input.')
    _check_channels(data['input'], where)
    if task == 'classification':
        _check(data['threshold'], _THRESHOLD, where, 'threshold.')
    for kind, file in data['files'].items():
        if kind not in KINDS:
            raise UserError(
                f'{where}: files.{kind} is unknown; known: {", ".join(KINDS)}'
            )
        if not isinstance(file, dict):
            raise UserError(f'{where}: files.{kind} must be an object')
        _check(file, _FILE, where, f'files.{kind}.')


def _check(
    data: dict, rules: dict[str, Rule], where: str | os.PathLike, prefix: str
) -> None:
    for key in data:
        if key not in rules:
            raise UserError(f'{where}: {prefix}{key} is unknown')
    for key, (what, fits) in rules.items():
        if key not in data:
            raise UserError(f'{where}: {prefix}{key} is missing')
        if not fits(data[key]):
            raise UserError(
                f'{where}: {prefix}{key} must be {what}, it is {data[key]!r}'
            )


def _check_channels(data: dict, where: str | os.PathLike) -> None:
    count = 1 if data['colour'] == 'grey' else 3
    for key in ('mean', 'std'):
        if len(data[key]) != count:
            raise UserError(
                f'{where}: input.{key} must be one number a channel, '
                f'{count} of {data["colour"]} images, it is {data[key]!r}'
            )


FORMAT = 'hkd_mm'
FORMAT_VERSION = 2
_DEEPEST = 100  # brackets within brackets; ours has five


def read_manifest(folder: str | os.PathLike) -> Manifest:
    """Read and check the manifest of a folder; its files by ``file_of``.

    Args:
        folder: an exported one, or the path of its ``manifest.json``.

    Raises:
        UserError: it is missing, damaged, of another version, or a key is
            missing, unknown or out of its range; the line names file and key.
    """
    path = Path(folder)
    path = path if path.name == FILE else path / FILE
    if not path.is_file():
        raise UserError(
            f'{path} does not exist; an exported student has one '
            '(tools/export.py writes it last)'
        )
    try:
        data = json.loads(_shallow(path.read_bytes()), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # JSON, its encoding
        raise UserError(f'{path} is damaged ({error})') from None
    return from_dict(data, path)


def from_dict(data: dict, where: str | os.PathLike) -> Manifest:
    """Check what the file holds.

    Args:
        data: the file's content.
        where: named in errors.

    Raises:
        UserError: as of :func:`read_manifest`.
    """
    check(data, where, FORMAT, FORMAT_VERSION)
    words = {k: v for k, v in data.items() if not k.startswith('format')}
    kind = MANIFESTS[words.pop('task')]
    shape = words['input']
    words['input'] = InputSpec(**{k: _fixed(v) for k, v in shape.items()})
    words['classes'] = tuple(words['classes'])
    if isinstance(words['threshold'], dict):
        words['threshold'] = Threshold(**words['threshold'])
    words['files'] = {
        kind: FileSpec(**file) for kind, file in words['files'].items()
    }
    return kind(**words)


def _shallow(text: bytes) -> bytes:
    """Refuse nesting that the parser's stack might not bear.

    Python's own guard depends on a limit that other packages raise.
    """
    depth = 0
    for byte in text:
        depth += (byte in b'[{') - (byte in b']}')
        if depth > _DEEPEST:
            raise ValueError('nested too deeply')
    return text


def _refuse(word: str) -> None:
    raise ValueError(f'{word} is no number')


def _fixed(value):
    return tuple(value) if isinstance(value, list) else value


def write_manifest(manifest: Manifest, folder: str | os.PathLike) -> Path:
    """Write it in one go, after the files it lists.

    Raises:
        UserError: it could not be read again.
    """
    path = Path(folder) / FILE
    data = dict(format=FORMAT, format_version=FORMAT_VERSION)
    data.update(task=manifest.task, **asdict(manifest))
    try:
        text = json.dumps(data, indent=1, allow_nan=False) + '\n'
    except ValueError:
        raise UserError(f'{path}: a value is not a finite number') from None
    from_dict(json.loads(text), path)
    for kind in manifest.files:
        manifest.file_of(folder, kind)
    aside = path.with_name(f'.{FILE}.{os.getpid()}.part')
    try:
        with open(aside, 'w', encoding='utf-8') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path
