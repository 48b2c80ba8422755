# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""An exported student before its network is loaded."""

import math
import os
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import read_manifest
from hkd_mm.inference.manifest_fields import (
    FILE,
    ClassifierManifest,
    Manifest,
    SegmentorManifest,
)
from hkd_mm.inference.onnx_backend import OnnxBackend, available, may_overflow
from hkd_mm.io.input_spec import InputSpec


def named(text: str) -> tuple[str, str]:
    """Take a name and a path apart.

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


TAKES = dict(
    classification='hkd_mm.apis.SkinClassifier',
    segmentation='hkd_mm.apis.Segmentor',
)


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
        threshold: of sure answers; infinite where none is ever sure enough,
            None where it is not known. Of a segmentor that of its pixels.
        manifest: of an exported folder.
        network: of a run: the network in torch, and whether it takes BGR.
    """

    backend: str
    weights: Path
    classes: list[str]
    input: InputSpec
    temperature: float = 1.0
    threshold: float | None = None
    manifest: Manifest | None = None
    network: tuple[Any, bool] | None = field(default=None, repr=False)

    def load(self, threads: int | None, device: str | None) -> Any:
        """The network, with ``logits(images)``.

        Raises:
            UserError: as of the backends.
        """
        if self.backend == 'onnx':
            self._look_at_processor()
            return OnnxBackend(self.weights, threads, device)
        from hkd_mm.inference.torch_backend import TorchBackend, load_weights

        network, swapped = self.network or load_weights(self.weights)
        return TorchBackend(network, swapped, threads, device)

    def _look_at_processor(self) -> None:
        """Warn where int8 may answer otherwise than when it was checked."""
        files = self.manifest.files if self.manifest else {}
        int8 = 'int8' in files and self.weights.name == files['int8'].path
        if not int8 or not may_overflow():
            return
        bits = self.manifest.checks.get('int8', {}).get('weight_bits')
        if bits != 7:
            warnings.warn(
                f'{self.weights} has weights of 8 bits, whose sums may '
                'overflow on this processor (x86 without VNNI); take float32, '
                'or export with --weight-bits 7'
            )


def read_student(
    place: str | os.PathLike,
    backend: str | None,
    precision: str,
    task: str = 'classification',
) -> Student:
    """Look at a folder.

    Args:
        place: an exported folder, or what a run left.
        backend: ``onnx``, ``torch`` or None.
        precision: ``fp32`` or ``int8``.
        task: ``classification`` or ``segmentation``.

    Raises:
        UserError: there is nothing of the kind in it, or a network of another
            task.
    """
    place = Path(place).expanduser()
    place = place.parent if place.name == FILE else place
    if (place / FILE).is_file():
        return _exported(place, backend, precision, task)
    if not place.exists():
        raise UserError(f'{place} does not exist')
    if backend == 'onnx' or precision != 'fp32':
        raise UserError(
            f'{place} has no {FILE}, so that it is no exported folder; make '
            'one with tools/export.py'
        )
    return _of_run(place, task)


def kind_of(backend: str | None, precision: str) -> str:
    """Which file of a manifest is wanted."""
    return 'torch' if backend == 'torch' else precision


def default_backend(files: Any, precision: str) -> str:
    """ONNX, unless torch is all there is.

    Args:
        files: kinds that a manifest lists.
        precision: ``fp32`` or ``int8``.
    """
    if precision == 'fp32' and 'torch' in files:
        return 'onnx' if 'fp32' in files and available() else 'torch'
    return 'onnx'


def check_task(place: Path, found: str, task: str) -> None:
    """Refuse a network of another task, with the name of what takes it.

    Raises:
        UserError: it is one.
    """
    if found != task:
        raise UserError(
            f'{place} holds a network for {found}, which {TAKES[found]} takes'
        )


def _exported(
    folder: Path, backend: str | None, precision: str, task: str
) -> Student:
    manifest = read_manifest(folder)
    check_task(folder, manifest.task, task)
    backend = backend or default_backend(manifest.files, precision)
    kind = kind_of(backend, precision)
    weights = manifest.file_of(folder, kind)
    spec = manifest.files[kind]
    if (spec.takes, spec.gives) != ('tensor', 'logits'):
        raise UserError(
            f'{folder / FILE}: files.{kind} takes {spec.takes} and gives '
            f'{spec.gives}; tensor and logits are wanted'
        )
    student = Student(
        backend,
        weights,
        list(manifest.classes),
        manifest.input,
        manifest=manifest,
    )
    if isinstance(manifest, SegmentorManifest):
        return replace(student, threshold=manifest.threshold)
    assert isinstance(manifest, ClassifierManifest)
    limit = manifest.threshold.probability
    return replace(
        student,
        temperature=manifest.temperature,
        threshold=math.inf if limit is None else limit,
    )


def _of_run(place: Path, task: str) -> Student:
    from hkd_mm.inference.torch_backend import STUDENT, read_run

    run = read_run(place)
    check_task(place, 'segmentation' if run.dense else 'classification', task)
    student = Student(
        'torch',
        run.folder / STUDENT,
        list(run.classes),
        run.spec,
        network=(run.network, run.swapped),
    )
    if run.dense:
        return replace(student, threshold=run.pixel_threshold)
    warnings.warn(
        f'{place} is no exported folder: probabilities are not calibrated '
        '(temperature 1) and no answer says whether it is sure; '
        'tools/export.py fits both on validation'
    )
    return student
