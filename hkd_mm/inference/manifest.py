# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``manifest.json``: all that is known of an exported student."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from hkd_mm.errors import UserError

from .manifest_checks import check
from .manifest_fields import (
    FILE,
    MANIFESTS,
    FileSpec,
    InputSpec,
    Manifest,
    Threshold,
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
