# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``manifest.json``: what is known of an exported student.

The keys of the file are the fields of the classes below, each with the rule
that its value is checked by.
"""

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from hkd_mm.errors import UserError
from hkd_mm.io.files import read_json, replacing, sha256
from hkd_mm.io.input_spec import InputSpec
from hkd_mm.version import __version__

FILE = 'manifest.json'
FORMAT = 'hkd_mm'
FORMAT_VERSION = 3
KINDS = ('fp32', 'int8', 'fp32_image', 'int8_image', 'executorch', 'torch')

Rule = tuple[str, Callable[[Any], bool]]


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _list_of(value: Any, item: Callable[[Any], bool], count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == (count or len(value))
        and all(map(item, value))
    )


def _one_of(*values: Any) -> Rule:
    return ' or '.join(map(repr, values)), lambda value: value in values


_DICT: Rule = ('an object', lambda v: isinstance(v, dict))
_STRING: Rule = ('a text', _text)
_COUNT: Rule = (
    'a whole number, 0 or more',
    lambda v: type(v) is int and v >= 0,
)
_SHARE: Rule = ('a number in [0, 1]', lambda v: _number(v) and 0 <= v <= 1)


def _key(rule: Rule, **options) -> Any:
    return field(metadata=dict(rule=rule), **options)


@dataclass(frozen=True)
class Threshold:
    """Below which probability an answer is "not confident".

    Attributes:
        probability: in [0, 1], after temperature scaling; None where no
            threshold kept the rule: then every answer is "not confident".
        rule: in words.
        coverage: share of the validation images that are answered.
        accuracy: of those answers, those to one lesion counted as one; 0
            where there are none.
        n: validation images that it was fitted on.
    """

    probability: float | None = _key(
        ('a number in [0, 1] or null', lambda v: v is None or _SHARE[1](v))
    )
    rule: str = _key(_STRING)
    coverage: float = _key(_SHARE)
    accuracy: float = _key(_SHARE)
    n: int = _key(_COUNT)


@dataclass(frozen=True)
class FileSpec:
    """One file of the folder.

    Attributes:
        path: plain name: nothing outside of the folder is ever opened.
        takes: ``tensor``: normalised float32 (N, C, H, W); ``image``: whole
            numbers of ``input.bits`` (N, H, W, C), RGB or grey, of any size.
        gives: ``logits`` or ``probabilities``, (N, C), or (N, C, h, w) of a segmentor.
    """

    path: str = _key(
        (
            'a name of a file in the folder',
            lambda v: _text(v) and not re.search(r'[/\\:]|^\.', v),
        )
    )
    sha256: str = _key(
        (
            'a SHA-256 in hexadecimal',
            lambda v: _text(v) and re.fullmatch('[0-9a-f]{64}', v),
        )
    )
    bytes: int = _key(_COUNT)
    takes: str = _key(_one_of('tensor', 'image'))
    gives: str = _key(_one_of('logits', 'probabilities'))


def file_spec(path: Path, takes: str, gives: str) -> FileSpec:
    """Describe a file of the folder."""
    size = path.stat().st_size
    return FileSpec(path.name, sha256(path), size, takes, gives)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the file says of a network of any task.

    Attributes:
        task: ``classification`` or ``segmentation``.
        name: of the run.
        parameters: number of weights.
        classes: in the order of the outputs; of a segmentor the background
            first, which has no output where there are two.
        input: what the network is fed.
        files: kind, one of ``KINDS``, -> file.
        source: ``run``, ``checkpoint``, ``epoch``, ``seed``, and
            ``weights_sha256`` of its ``student.pth``.
        metrics: ``val`` and ``test``, each name -> value or None.
        checks: what the export measured.
        calibration_images: training images that int8 was calibrated on, 0 without int8.
        licence: of the weights.
        notice: what the network is not for.
        split_hash: of the data split.
        hkd_mm: version that wrote it.
        created: ISO 8601, UTC.
    """

    task: ClassVar[str]

    name: str = _key(_STRING)
    architecture: str = _key(_STRING)
    parameters: int = _key(_COUNT)
    classes: tuple[str, ...] = _key(
        (
            'a list of two or more different names',
            lambda v: _list_of(v, _text, 0) and 1 < len(v) == len(set(v)),
        )
    )
    input: InputSpec = _key(_DICT)
    files: dict[str, FileSpec] = _key(
        ('an object with a file', lambda v: isinstance(v, dict) and v)
    )
    source: dict = _key(_DICT)
    metrics: dict = _key(_DICT)
    checks: dict = _key(_DICT)
    calibration_images: int = _key(_COUNT)
    licence: str = _key(_STRING)
    notice: str = _key(_STRING)
    created: str = _key(_STRING)
    split_hash: str | None = _key(
        ('a text or null', lambda v: v is None or _text(v)), default=None
    )
    hkd_mm: str = _key(_STRING, default=__version__)

    def made_of(self, weights: str | os.PathLike) -> bool:
        """Whether a ``student.pth`` exists and is the one that was exported.

        Name and path of the run do not show it: folders are copied and
        renamed, and runs are trained again.
        """
        known = self.source.get('weights_sha256')
        return os.path.isfile(weights) and sha256(weights) == known

    def file_of(self, folder: str | os.PathLike, kind: str) -> Path:
        """Path of a file whose length and hash are those of the manifest.

        Raises:
            UserError: it is not in the manifest, missing or changed.
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


@dataclass(frozen=True, kw_only=True)
class ClassifierManifest(Manifest):
    """Manifest of a network that gives an image a class.

    Attributes:
        temperature: ``softmax(logits / temperature)`` are the probabilities.
        threshold: of confident answers.
    """

    task = 'classification'

    temperature: float = _key(('a number above 0', _positive))
    threshold: Threshold = _key(_DICT)


@dataclass(frozen=True, kw_only=True)
class SegmentorManifest(Manifest):
    """Manifest of a network that gives every pixel a class.

    Attributes:
        threshold: probability above which a pixel belongs to the one class beside the
            background. Of several classes the most probable is taken.
    """

    task = 'segmentation'

    threshold: float = _key(
        ('a number between 0 and 1', lambda v: _positive(v) and v < 1)
    )


MANIFESTS = {kind.task: kind for kind in (ClassifierManifest, SegmentorManifest)}
_INPUT: dict[str, Rule] = dict(
    size=(
        'two whole numbers above 0',
        lambda v: _list_of(v, lambda one: type(one) is int and one > 0, 2),
    ),
    resize=_one_of('area'),
    colour=_one_of('RGB', 'grey'),
    mean=('numbers', lambda v: _list_of(v, _number, 0)),
    std=('numbers above 0', lambda v: _list_of(v, _positive, 0)),
    bits=_one_of(8, 16),
    window=(
        'a centre and a width above 0, or null',
        lambda v: v is None or (_list_of(v, _number, 2) and v[1] > 0),
    ),
)


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
        data = read_json(path, parse_constant=_refuse)
    except ValueError as error:
        raise UserError(f'{path} is damaged ({error})') from None
    return _from_dict(data, path)


def write_manifest(manifest: Manifest, folder: str | os.PathLike) -> Path:
    """Write it in one go, after the files it lists.

    Raises:
        UserError: it could not be read again.
    """
    path = Path(folder) / FILE
    data = dict(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        task=manifest.task,
        **asdict(manifest),
    )
    try:
        text = json.dumps(data, indent=1, allow_nan=False) + '\n'
    except ValueError:
        raise UserError(f'{path}: a value is not a finite number') from None
    _from_dict(json.loads(text), path)
    for kind in manifest.files:
        manifest.file_of(folder, kind)
    with replacing(path, 'w', encoding='utf-8') as file:
        file.write(text)
    return path


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is no number')


def _from_dict(data: Any, where: Path) -> Manifest:
    if not isinstance(data, dict) or data.get('format') != FORMAT:
        raise UserError(f'{where} is no manifest of {FORMAT} (key "format")')
    version = data.get('format_version')
    if version != FORMAT_VERSION:
        renamed = ', whose "sure" is now called "confident"'
        raise UserError(
            f'{where} has format_version {version!r}'
            f'{renamed if version == 2 else ""}; this hkd_mm reads '
            f'{FORMAT_VERSION}: export again, or use the hkd_mm that wrote it '
            f'({data.get("hkd_mm", "unknown")})'
        )
    task = {key: data[key] for key in data if key == 'task'}
    _check(task, dict(task=_one_of(*MANIFESTS)), where)
    kind = MANIFESTS[data['task']]
    values = {
        key: value
        for key, value in data.items()
        if key not in ('format', 'format_version', 'task')
    }
    _check(values, _rules(kind), where)
    values['classes'] = tuple(values['classes'])
    values['input'] = _input_of(values['input'], where)
    if kind is ClassifierManifest:
        found = values['threshold']
        _check(found, _rules(Threshold), where, 'threshold.')
        values['threshold'] = Threshold(**found)
    _check(values['files'], {}, where, 'files.', KINDS)
    for name, file in values['files'].items():
        _check(file, _rules(FileSpec), where, f'files.{name}.')
    values['files'] = {k: FileSpec(**v) for k, v in values['files'].items()}
    return kind(**values)


def _rules(kind: type) -> dict[str, Rule]:
    return {one.name: one.metadata['rule'] for one in fields(kind)}


def _check(
    data: Any,
    rules: dict[str, Rule],
    where: Path,
    prefix: str = '',
    known: tuple[str, ...] = (),
) -> None:
    """Refuse the first key that is unknown, missing or wrong."""
    if not isinstance(data, dict):
        raise UserError(f'{where}: {prefix[:-1]} must be an object')
    for key in data:
        if key not in rules and key not in known:
            raise UserError(f'{where}: {prefix}{key} is unknown')
    for key, (what, fits) in rules.items():
        if key not in data:
            raise UserError(f'{where}: {prefix}{key} is missing')
        if not fits(data[key]):
            raise UserError(
                f'{where}: {prefix}{key} must be {what}, it is {data[key]!r}'
            )


def _input_of(data: dict, where: Path) -> InputSpec:
    _check(data, _INPUT, where, 'input.')
    fixed = {k: tuple(v) if type(v) is list else v for k, v in data.items()}
    spec = InputSpec(**fixed)
    for key in ('mean', 'std'):
        if len(data[key]) != spec.channels:
            raise UserError(
                f'{where}: input.{key} must be one number a channel, '
                f'{spec.channels} of {spec.colour} images, it is {data[key]!r}'
            )
    return spec
