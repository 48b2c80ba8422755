# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``manifest.json``: what is known of an exported student.

The keys of the file are the fields of the classes below, and their types its schema.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue

from hkd_mm.errors import UserError
from hkd_mm.io.files import read_json, replacing, sha256
from hkd_mm.io.input_spec import InputSpec
from hkd_mm.io.schema import validate
from hkd_mm.version import __version__

FILE = 'manifest.json'
FORMAT = 'hkd_mm'
FORMAT_VERSION = 3
_MOST_BYTES = 16_000_000  # of the file; ours have some kilobytes
_CLOSED = ConfigDict(extra='forbid', allow_inf_nan=False)

_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=0, le=10**15)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Name = Annotated[str, Field(pattern=r'^[^\x00-\x1f\x7f]{1,200}$')]


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError('a name is there twice')
    return names


def _by_channel(spec: InputSpec) -> InputSpec:
    if not len(spec.mean) == len(spec.std) == spec.channels:
        raise ValueError(
            f'mean and std must have a number for each of the {spec.channels} '
            f'channels of {spec.colour} images'
        )
    return spec


@dataclass(frozen=True)
class Threshold:
    """Which probability, after temperature scaling, makes an answer "confident"."""

    __pydantic_config__ = _CLOSED

    probability: _Share | None  # None where no threshold kept the rule: never confident
    rule: _Text
    coverage: _Share  # of the validation images, those that are answered
    accuracy: _Share  # of those, a lesion counted once; 0 where there are none
    n: _Count  # validation images that it was fitted on


@dataclass(frozen=True)
class FileSpec:
    """One file of the folder, by its plain name: nothing outside is ever opened.

    ``tensor`` is normalised float32 (N, C, H, W), ``image`` whole numbers of
    ``input.bits`` (N, H, W, C), RGB or grey, of any size; what a file gives is (N, C),
    or (N, C, h, w) of a segmentor.
    """

    __pydantic_config__ = _CLOSED

    path: Annotated[str, Field(pattern=r'^[^./\\:\x00-\x1f][^/\\:\x00-\x1f]{0,199}$')]
    sha256: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    bytes: _Count
    takes: Literal['tensor', 'image']
    gives: Literal['logits', 'probabilities']


def file_spec(path: Path, takes: str, gives: str) -> FileSpec:
    """Describe a file of the folder."""
    size = path.stat().st_size
    return FileSpec(path.name, sha256(path), size, takes, gives)


_Kind = Literal['fp32', 'int8', 'fp32_image', 'int8_image', 'executorch', 'torch']


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the file says of a network of any task."""

    __pydantic_config__ = _CLOSED
    task: ClassVar[str]

    name: _Text
    architecture: _Text
    parameters: _Count
    # in the order of the outputs; of a segmentor the background first, which has no
    # output where there are two
    classes: Annotated[
        tuple[_Name, ...],
        Field(min_length=2, max_length=10_000),
        AfterValidator(_distinct),
    ]
    input: Annotated[InputSpec, AfterValidator(_by_channel)]
    files: Annotated[dict[_Kind, FileSpec], Field(min_length=1)]
    source: dict[str, JsonValue]  # the run, and ``weights_sha256`` of its student.pth
    metrics: dict[str, dict[str, float | None] | None]  # of ``val`` and ``test``
    checks: dict[str, JsonValue]  # what the export measured
    calibration_images: _Count  # that int8 has seen
    licence: _Text
    notice: _Text
    created: _Text  # ISO 8601, UTC
    split_hash: _Text | None = None
    hkd_mm: _Text = __version__  # that wrote it

    def made_of(self, weights: str | os.PathLike) -> bool:
        """Whether a ``student.pth`` is the one that was exported, by its hash."""
        known = self.source.get('weights_sha256')
        return os.path.isfile(weights) and sha256(weights) == known

    def file_of(self, folder: str | os.PathLike, kind: str) -> Path:
        """Path of a file whose length and hash are those of the manifest."""
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
        # In the cache of the Hub all files are links, to one folder.
        if where.exists() and path.resolve().parent != where.resolve().parent:
            raise UserError(
                f'{path} is a link to another folder than that of {where}; put the '
                'file itself there'
            )
        if path.stat().st_size != spec.bytes or sha256(path) != spec.sha256:
            raise UserError(
                f'{path} is not the file that {where} describes (files.{kind}'
                '.sha256 differs); copy or export it again'
            )
        return path


@dataclass(frozen=True, kw_only=True)
class ClassifierManifest(Manifest):
    """Manifest of a network that gives an image a class."""

    task = 'classification'

    temperature: Annotated[float, Field(ge=1e-3, le=1e3)]  # divides the logits
    threshold: Threshold


@dataclass(frozen=True, kw_only=True)
class SegmentorManifest(Manifest):
    """Manifest of a network that gives every pixel a class."""

    task = 'segmentation'

    # from which a pixel is of the one class beside the background; of several classes
    # the most probable is taken
    threshold: Annotated[float, Field(gt=0, lt=1)]


def read_manifest(folder: str | os.PathLike) -> Manifest:
    """Read and check ``manifest.json``, of a folder; its files by ``file_of``."""
    path = Path(folder)
    path = path if path.name == FILE else path / FILE
    if not path.is_file():
        raise UserError(
            f'{path} does not exist; an exported student has one '
            '(tools/export.py writes it last)'
        )
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f'{path} is damaged (longer than any manifest)')
    try:
        data = read_json(path, parse_constant=_refuse)
    except (OSError, ValueError) as error:
        raise UserError(f'{path} is damaged ({error})') from None
    return _from_dict(data, path)


def write_manifest(manifest: Manifest, folder: str | os.PathLike) -> Path:
    """Write it in one go, after the files it lists, if it can be read again."""
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
    if not isinstance(data, dict) or data.pop('format', None) != FORMAT:
        raise UserError(f'{where} is no manifest of {FORMAT} (key "format")')
    version = data.pop('format_version', None)
    if version != FORMAT_VERSION or isinstance(version, (bool, float)):
        renamed = ', whose "sure" is now called "confident"'
        raise UserError(
            f'{where} has format_version {version!r:.60}'
            f'{renamed if version == 2 else ""}; this hkd_mm reads '
            f'{FORMAT_VERSION}: export again, or use the hkd_mm that wrote it '
            f'({data.get("hkd_mm", "unknown")!s:.60})'
        )
    kinds = {kind.task: kind for kind in (ClassifierManifest, SegmentorManifest)}
    task = validate(Literal[tuple(kinds)], data.pop('task', None), f'{where}: task')
    return validate(kinds[task], data, str(where))
