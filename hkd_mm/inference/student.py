# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""An exported student: found, loaded, and asked."""

import math
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from hkd_mm.errors import UserError, first_line
from hkd_mm.inference import backends
from hkd_mm.inference.folder import find_images
from hkd_mm.inference.manifest import FILE, ClassifierManifest, Manifest, read_manifest
from hkd_mm.inference.pretrained import PRETRAINED, folder_of
from hkd_mm.io.images import Source
from hkd_mm.io.input_spec import InputSpec
from hkd_mm.lazy import require

_NAME = re.compile(r'[\w.-]+/[\w.-]+')  # on the Hub
Images = Source | Iterable[Source]
CLASS_OF_TASK = dict(classification='SkinClassifier', segmentation='Segmentor')


def named(text: str) -> tuple[str, str]:
    """Split ``NAME=PATH`` or a path, whose name is then empty.

    What exists as a whole is a path, else the first ``=`` ends the name.
    """
    name, equals, path = text.partition('=')
    if not equals or os.path.exists(text):
        return '', text
    return name, path


@dataclass(frozen=True)
class Student:
    """An exported student, or that of a run."""

    backend: str  # ``onnx`` or ``torch``
    weights: Path
    classes: tuple[str, ...]  # of the outputs; of a segmentor the background first
    input: InputSpec
    temperature: float = 1.0  # ``softmax(logits / temperature)``
    # of confident answers: infinite where none is, None where not known; or of pixels
    threshold: float | None = None
    manifest: Manifest | None = None
    # of a run: the network in torch, and whether it takes BGR
    network: tuple[Any, bool] | None = field(default=None, repr=False)

    def load(self, threads: int | None, device: str | None) -> Any:
        """Load the network, which has ``logits(images)``."""
        if self.backend == 'torch':
            network, swapped = self.network or backends.load_weights(self.weights)
            return backends.TorchBackend(network, swapped, threads, device)
        int8, found = self.manifest.files.get('int8'), self.manifest.checks.get('int8')
        bits = found.get('weight_bits') if isinstance(found, dict) else None
        chosen = int8 is not None and self.weights.name == int8.path
        if chosen and bits != 7 and backends.may_overflow():
            warnings.warn(
                f'{self.weights} has weights of 8 bits, whose sums may '
                'overflow on this processor (x86 without VNNI); take float32, '
                'or export with --weight-bits 7'
            )
        shape = (self.input.channels, *self.input.size)
        return backends.OnnxBackend(self.weights, threads, device, shape)


def read_student(
    path: str | os.PathLike,
    backend: str | None,
    precision: str,
    task: str = 'classification',
) -> Student:
    """Find the student of an exported folder, else of a run (its export first)."""
    path = Path(path).expanduser()
    path = path.parent if path.name == FILE else path
    inside = path / 'export'
    if backend != 'torch' and (inside / FILE).is_file() and not (path / FILE).exists():
        warnings.warn(f'{path} is a run: its export is taken, {inside}')
        path = inside
    if (path / FILE).is_file():
        manifest = read_manifest(path)
        _check_task(path, manifest.task, task)
        backend, kind = choose_file(manifest.files, backend, precision)
        temperature, threshold = 1.0, manifest.threshold
        if isinstance(manifest, ClassifierManifest):
            temperature, threshold = manifest.temperature, threshold.probability
        return Student(
            backend,
            manifest.file_of(path, kind),
            manifest.classes,
            manifest.input,
            temperature,
            math.inf if threshold is None else threshold,
            manifest,
        )
    if not path.exists():
        raise UserError(f'{path} does not exist')
    if backend == 'onnx' or precision != 'fp32':
        raise UserError(
            f'{path} has no {FILE}, so that it is no exported folder; make '
            'one with tools/export.py'
        )
    run = backends.read_unexported(path)
    _check_task(path, 'segmentation' if run.dense else 'classification', task)
    if not run.dense:
        warnings.warn(
            f'{path} is no exported folder: probabilities are not calibrated '
            '(temperature 1) and no answer says whether it is confident; '
            'tools/export.py fits both on validation'
        )
    return Student(
        'torch',
        run.folder / backends.STUDENT,
        tuple(run.classes),
        run.spec,
        threshold=run.pixel_threshold if run.dense else None,
        network=(run.network, run.swapped),
    )


def choose_file(
    files: Collection[str], backend: str | None, precision: str
) -> tuple[str, str]:
    """Choose a backend, ONNX unless torch is all there is, and the kind of its file."""
    if backend is None:
        onnx = 'torch' not in files or ('fp32' in files and backends.available())
        backend = 'onnx' if onnx or precision != 'fp32' else 'torch'
    return backend, 'torch' if backend == 'torch' else precision


def _check_task(path: Path, found: str, task: str) -> None:
    if found != task:
        raise UserError(
            f'{path} holds a network for {found}, which '
            f'hkd_mm.apis.{CLASS_OF_TASK[found]} takes'
        )


class StudentModel:
    """A student that answers. Several threads may call one.

    With the ONNX backend neither torch nor OpenMMLab is imported.

    Args:
        path: a folder of ``tools/export.py``; the work dir of a run, whose
            ``export`` is taken; or, for torch, a work dir or its ``student.pth``,
            which know neither temperature nor threshold of confident answers.
        backend: ``onnx`` or ``torch``; None takes the first that the folder
            and this machine have.
        precision: ``fp32``, or ``int8`` (ONNX alone).
        device: ``cpu`` or ``cuda``; None is the CPU for ONNX, and the GPU
            where there is one for torch.
        batch_size: 32 of a classifier, 4 of a segmentor by default.
        max_pixels: larger images are refused, see :func:`hkd_mm.io.images.read_rgb`.
    """

    task: ClassVar[str]
    _batch_size: ClassVar[int]

    def __init__(
        self,
        path: str | os.PathLike,
        backend: str | None = None,
        precision: str = 'fp32',
        threads: int | None = None,
        device: str | None = None,
        batch_size: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        if batch_size is None:
            batch_size = self._batch_size
        if backend not in (None, 'onnx', 'torch'):
            raise UserError(f'backend {backend!r}: give "onnx" or "torch"')
        if precision not in ('fp32', 'int8'):
            raise UserError(f'precision {precision!r}: give "fp32" or "int8"')
        if backend == 'torch' and precision != 'fp32':
            raise UserError('int8 runs in ONNX Runtime only; leave out torch')
        for name, value, most in (
            ('threads', threads, 1024),
            ('batch_size', batch_size, 4096),
            ('max_pixels', max_pixels, 10**10),
        ):
            if value is not None and not 1 <= value <= most:
                raise UserError(f'{name}={value}: at least 1, at most {most}')
        self.student = read_student(path, backend, precision, self.task)
        self.classes = self.student.classes
        self.precision = precision
        self.batch_size, self.max_pixels = batch_size, max_pixels
        self._network = self.student.load(threads, device)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        backend: str | None = None,
        precision: str = 'fp32',
        revision: str | None = None,
        **kwargs,
    ) -> 'StudentModel':
        """Load by name, by path, or ``owner/name`` of the Hugging Face Hub.

        A name such as ``ham10000`` is of a student that comes with hkd_mm, see
        :mod:`hkd_mm.inference.pretrained`; ``./ham10000`` is a folder.
        Of the Hub, at a branch, tag or commit, only the manifest and the one file that
        is used are fetched, and that file's hash must be the manifest's.
        """
        folder = _local_folder(name, backend, precision, revision)
        return cls(folder, backend, precision, **kwargs)

    def _batches(
        self, sources: Iterable[Source], prepare: Callable[[Source], Any]
    ) -> Iterator[list]:
        ready = map(prepare, sources)
        while batch := list(islice(ready, self.batch_size)):
            yield batch


def _local_folder(
    name: str | os.PathLike, backend: str | None, precision: str, revision: str | None
) -> Path:
    """Return a folder of this machine, or fetch one unless it is cached."""
    path, name = Path(folder_of(name)).expanduser(), str(name)
    if path.exists():
        return path
    if not _NAME.fullmatch(name):
        raise UserError(
            f'{name} is neither a student that comes with hkd_mm '
            f'({", ".join(PRETRAINED)}), nor a folder that exists, nor a name '
            'OWNER/NAME on the Hugging Face Hub'
        )
    folder = _fetch(name, FILE, revision)
    files = read_manifest(folder).files
    _, kind = choose_file(files, backend, precision)
    if kind not in files:
        raise UserError(f'{name} on the Hub has no "{kind}"; it has {", ".join(files)}')
    # The second file has to be of the same commit as the first.
    return _fetch(name, files[kind].path, folder.name)


def _fetch(name: str, file: str, revision: str | None) -> Path:
    use = f'{name} is no folder here, and a model of the Hub'
    hub = require('huggingface_hub', use, 'huggingface_hub')
    try:
        return Path(hub.hf_hub_download(name, file, revision=revision)).parent
    except Exception as error:  # of the Hub, its client, or the network
        raise UserError(
            f'{file} of {name} cannot be fetched from the Hugging Face Hub, '
            f'and the path {name} does not exist here ({first_line(error)})'
        ) from None


def sources_of(images: Images) -> tuple[Iterable[Source], bool]:
    """List images, and whether there may be several."""
    if isinstance(images, (str, os.PathLike)) and os.path.isdir(images):
        return find_images([images]), True
    lone = not isinstance(images, Iterable) or isinstance(
        images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
    )  # the reader says what is wrong with a source of another type
    if lone or (isinstance(images, np.ndarray) and images.ndim != 4):
        return [images], False
    return images, True
