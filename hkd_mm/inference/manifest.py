# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``manifest.json``: all that is known of an exported student."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.version import __version__

from .manifest_checks import check
from .manifest_fields import FileSpec, InputSpec, Threshold

FILE = 'manifest.json'
FORMAT = 'hkd_mm'
FORMAT_VERSION = 1
_DEEPEST = 100  # brackets within brackets; ours has five


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says; the words are those of the file.

    Attributes:
        name: of the run.
        architecture: of the net.
        parameters: number of weights.
        classes: in the order of the outputs.
        input: what the net is fed.
        temperature: > 0; ``softmax(logits / temperature)`` are the
            probabilities.
        threshold: of sure answers.
        files: kind -> file; kinds are those of ``manifest_checks.KINDS``.
        source: ``run``, ``checkpoint``, ``epoch``, ``seed``, and
            ``weights_sha256`` of its ``student.pth``.
        metrics: ``val`` and ``test``, each name -> value or None.
        checks: what the export measured.
        calibration_images: training images that int8 was calibrated on, 0
            without int8.
        licence: of the weights.
        notice: what the net is not for.
        split_hash: of the data split.
        hkd_mm: version that wrote it.
        created: ISO 8601, UTC.
    """

    name: str
    architecture: str
    parameters: int
    classes: tuple[str, ...]
    input: InputSpec
    temperature: float
    threshold: Threshold
    files: dict[str, FileSpec]
    source: dict
    metrics: dict
    checks: dict
    calibration_images: int
    licence: str
    notice: str
    created: str
    split_hash: str | None = None
    hkd_mm: str = __version__

    def file_of(self, folder: str | os.PathLike, kind: str) -> Path:
        """A file, held against its length and hash.

        Args:
            folder: where the manifest lies.
            kind: a key of ``files``.

        Raises:
            UserError: it is not in the manifest, not there or changed.
        """
        where = Path(folder) / FILE
        if kind not in self.files:
            raise UserError(
                f'{where} lists no "{kind}"; it has {", ".join(self.files)}'
            )
        spec = self.files[kind]
        path = Path(folder) / spec.path
        if not path.is_file():
            raise UserError(
                f'{path} is missing, {where} lists it; copy the whole folder'
            )
        if path.stat().st_size != spec.bytes or sha256(path) != spec.sha256:
            raise UserError(
                f'{path} is not the file that {where} describes (files.{kind}'
                '.sha256 differs); copy or export it again'
            )
        return path


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
    shape = words['input']
    words['input'] = InputSpec(**{k: _fixed(v) for k, v in shape.items()})
    words['classes'] = tuple(words['classes'])
    words['threshold'] = Threshold(**words['threshold'])
    words['files'] = {
        kind: FileSpec(**file) for kind, file in words['files'].items()
    }
    return Manifest(**words)


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
    data.update(asdict(manifest))
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


def sha256(path: str | os.PathLike) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def file_spec(path: Path, takes: str, gives: str) -> FileSpec:
    """Describe a file that lies in the folder."""
    size = path.stat().st_size
    return FileSpec(path.name, sha256(path), size, takes, gives)
