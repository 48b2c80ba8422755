# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""An exported student before its network is loaded."""

import math
import os
import warnings
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.inference.backends import (
    STUDENT,
    OnnxBackend,
    TorchBackend,
    available,
    load_weights,
    may_overflow,
    read_unexported,
)
from hkd_mm.inference.manifest import (
    FILE,
    ClassifierManifest,
    Manifest,
    read_manifest,
)
from hkd_mm.io.input_spec import InputSpec

CLASS_OF_TASK = dict(classification='SkinClassifier', segmentation='Segmentor')


def named(text: str) -> tuple[str, str]:
    """Split a name and a path.

    Args:
        text: ``NAME=PATH``, or a path, which may have ``=`` in it: what
            exists as a whole is a path, else the first ``=`` ends the name.

    Returns:
        The name, empty where there is none, and the path.
    """
    name, equals, path = text.partition('=')
    if not equals or os.path.exists(text):
        return '', text
    return name, path


@dataclass(frozen=True)
class Student:
    """An exported student, or that of a run.

    Attributes:
        backend: ``onnx`` or ``torch``.
        weights: file of the network.
        classes: in the order of the network's outputs, of a segmentor with the
            background first.
        input: what the network is fed.
        temperature: ``softmax(logits / temperature)``; 1 of a segmentor.
        threshold: of confident answers; infinite where none is ever confident,
            None where it is not known. Of a segmentor that of its pixels.
        manifest: of an exported folder.
        network: of a run: the network in torch, and whether it takes BGR.
    """

    backend: str
    weights: Path
    classes: tuple[str, ...]
    input: InputSpec
    temperature: float = 1.0
    threshold: float | None = None
    manifest: Manifest | None = None
    network: tuple[Any, bool] | None = field(default=None, repr=False)

    def load(self, threads: int | None, device: str | None) -> Any:
        """Load the network, which has ``logits(images)``."""
        if self.backend == 'onnx':
            self._warn_of_overflow()
            shape = (self.input.channels, *self.input.size)
            return OnnxBackend(self.weights, threads, device, shape)
        network, swapped = self.network or load_weights(self.weights)
        return TorchBackend(network, swapped, threads, device)

    def _warn_of_overflow(self) -> None:
        """Warn where int8 may answer otherwise than when it was checked."""
        int8 = self.manifest.files.get('int8')
        if int8 is None or self.weights.name != int8.path:
            return
        bits = self.manifest.checks.get('int8', {}).get('weight_bits')
        if bits != 7 and may_overflow():
            warnings.warn(
                f'{self.weights} has weights of 8 bits, whose sums may '
                'overflow on this processor (x86 without VNNI); take float32, '
                'or export with --weight-bits 7'
            )


def read_student(
    path: str | os.PathLike,
    backend: str | None,
    precision: str,
    task: str = 'classification',
) -> Student:
    """Find the student of an exported folder, or of what a run left.

    Of a run that was exported the export is taken, unless torch is asked for.

    Raises:
        UserError: there is none, or its network is of another task.
    """
    path = Path(path).expanduser()
    path = path.parent if path.name == FILE else path
    inside = path / 'export'
    if backend != 'torch' and (inside / FILE).is_file() and not (path / FILE).exists():
        warnings.warn(f'{path} is a run: its export is taken, {inside}')
        path = inside
    if (path / FILE).is_file():
        return _exported(path, backend, precision, task)
    if not path.exists():
        raise UserError(f'{path} does not exist')
    if backend == 'onnx' or precision != 'fp32':
        raise UserError(
            f'{path} has no {FILE}, so that it is no exported folder; make '
            'one with tools/export.py'
        )
    return _of_run(path, task)


def choose_file(
    files: Collection[str], backend: str | None, precision: str
) -> tuple[str, str]:
    """Choose a backend, ONNX unless torch is all there is, and its file.

    Returns:
        The backend, and which of the kinds of ``files`` it takes.
    """
    if backend is None:
        onnx = 'torch' not in files or ('fp32' in files and available())
        backend = 'onnx' if onnx or precision != 'fp32' else 'torch'
    return backend, 'torch' if backend == 'torch' else precision


def _exported(folder: Path, backend: str | None, precision: str, task: str) -> Student:
    manifest = read_manifest(folder)
    _check_task(folder, manifest.task, task)
    backend, kind = choose_file(manifest.files, backend, precision)
    temperature, threshold = 1.0, manifest.threshold
    if isinstance(manifest, ClassifierManifest):
        temperature, threshold = manifest.temperature, threshold.probability
    return Student(
        backend,
        manifest.file_of(folder, kind),
        manifest.classes,
        manifest.input,
        temperature,
        math.inf if threshold is None else threshold,
        manifest,
    )


def _of_run(path: Path, task: str) -> Student:
    run = read_unexported(path)
    _check_task(path, 'segmentation' if run.dense else 'classification', task)
    if not run.dense:
        warnings.warn(
            f'{path} is no exported folder: probabilities are not calibrated '
            '(temperature 1) and no answer says whether it is confident; '
            'tools/export.py fits both on validation'
        )
    return Student(
        'torch',
        run.folder / STUDENT,
        tuple(run.classes),
        run.spec,
        threshold=run.pixel_threshold if run.dense else None,
        network=(run.network, run.swapped),
    )


def _check_task(path: Path, found: str, task: str) -> None:
    if found != task:
        raise UserError(
            f'{path} holds a network for {found}, which '
            f'hkd_mm.apis.{CLASS_OF_TASK[found]} takes'
        )
