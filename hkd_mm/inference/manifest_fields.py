# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a manifest says, of either task, and its parts."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hkd_mm.errors import UserError
from hkd_mm.io.input_spec import InputSpec
from hkd_mm.version import __version__

FILE = 'manifest.json'


@dataclass(frozen=True)
class Threshold:
    """Below which probability an answer is "not sure".

    Attributes:
        probability: in [0, 1], after temperature scaling; None where no
            threshold kept the rule: then every answer is "not sure".
        rule: in words.
        coverage: share of the validation images that are answered.
        accuracy: of those answers, those to one lesion counted as one; 0
            where there are none.
        n: validation images that it was fitted on.
    """

    probability: float | None
    rule: str
    coverage: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class FileSpec:
    """One file of the folder.

    Attributes:
        path: name of the file in the folder.
        sha256: of its bytes, in hexadecimal.
        bytes: its length.
        takes: ``tensor``: normalised float32 (N, C, H, W); ``image``: whole
            numbers of ``input.bits`` (N, H, W, C), RGB or grey, of any size.
        gives: ``logits`` or ``probabilities``, (N, C), or (N, C, h, w) of a
            segmentor.
    """

    path: str
    sha256: str
    bytes: int
    takes: str
    gives: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What ``manifest.json`` says of every network; the words are the file's.

    Attributes:
        task: ``classification`` or ``segmentation``.
        name: of the run.
        architecture: of the network.
        parameters: number of weights.
        classes: in the order of the outputs; of a segmentor the background
            first, which has no output where there are two.
        input: what the network is fed.
        files: kind -> file; kinds are those of ``manifest_checks.KINDS``.
        source: ``run``, ``checkpoint``, ``epoch``, ``seed``, and
            ``weights_sha256`` of its ``student.pth``.
        metrics: ``val`` and ``test``, each name -> value or None.
        checks: what the export measured.
        calibration_images: training images that int8 was calibrated on, 0
            without int8.
        licence: of the weights.
        notice: what the network is not for.
        split_hash: of the data split.
        hkd_mm: version that wrote it.
        created: ISO 8601, UTC.
    """

    task: ClassVar[str]

    name: str
    architecture: str
    parameters: int
    classes: tuple[str, ...]
    input: InputSpec
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

    def made_of(self, weights: str | os.PathLike) -> bool:
        """Whether a ``student.pth`` is there, and the one that was exported.

        Neither the name of the run nor its place tells: folders are copied
        and renamed, and runs are trained again.
        """
        known = self.source.get('weights_sha256')
        return os.path.isfile(weights) and sha256(weights) == known

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


@dataclass(frozen=True, kw_only=True)
class ClassifierManifest(Manifest):
    """Of a network that gives an image a class.

    Attributes:
        temperature: > 0; ``softmax(logits / temperature)`` are the
            probabilities.
        threshold: of sure answers.
    """

    task = 'classification'

    temperature: float
    threshold: Threshold


@dataclass(frozen=True, kw_only=True)
class SegmentorManifest(Manifest):
    """Of a network that gives every pixel a class.

    Attributes:
        threshold: in (0, 1); from which probability on a pixel is of the one
            class beside the background. Of several classes the most probable
            is taken.
    """

    task = 'segmentation'

    threshold: float


MANIFESTS = {
    kind.task: kind for kind in (ClassifierManifest, SegmentorManifest)
}


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
