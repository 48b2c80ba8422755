# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Exported folders for tests, with a network of two layers."""

from pathlib import Path

import numpy as np
import pytest

from hkd_mm.inference.manifest import (
    ClassifierManifest,
    Threshold,
    file_spec,
    write_manifest,
)
from hkd_mm.io.input_spec import InputSpec

CLASSES = ('bcc', 'mel', 'nv')
SIZE = (8, 6)
MEAN, STD = (100.0, 110.0, 120.0), (40.0, 50.0, 60.0)
# (C, 3): how much the mean of a channel says for a class
WEIGHTS = np.float32([[3, -1, 0], [0, 2, -2], [-2, 0, 3]])
# begins a program that can import nothing of training
WITHOUT_TRAINING = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {
            'torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain',
            'mmrazor', 'timm', 'scipy', 'sklearn', 'matplotlib', 'rich'}:
            raise ImportError(f'{name} is forbidden here')
sys.meta_path.insert(0, Refuse())
"""


def export_tiny(
    folder: Path,
    weights: np.ndarray = WEIGHTS,
    threshold: float | None = 0.6,
    classes: tuple[str, ...] = CLASSES,
) -> Path:
    """Write a folder as ``tools/export.py`` does.

    Args:
        folder: made.
        weights: (C, 3).
        threshold: of confident answers.
        classes: C names.
    """
    pytest.importorskip('onnx')
    folder.mkdir(parents=True)
    for name, scale in (('student', 1), ('student_int8', 0.5)):
        write_onnx(folder / f'{name}.onnx', scale * weights)
    write_tiny_manifest(
        folder,
        classes,
        threshold,
        fp32=file_spec(folder / 'student.onnx', 'tensor', 'logits'),
        int8=file_spec(folder / 'student_int8.onnx', 'tensor', 'logits'),
    )
    return folder


def write_onnx(path: Path, weights: np.ndarray) -> None:
    """A mean over the places, then a linear layer."""
    from onnx import TensorProto, checker, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node('GlobalAveragePool', ['images'], ['pooled']),
            helper.make_node('Flatten', ['pooled'], ['flat']),
            helper.make_node('MatMul', ['flat', 'weights'], ['logits']),
        ],
        'tiny',
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, ['N', 3, *SIZE])],
        [
            helper.make_tensor_value_info(
                'logits', TensorProto.FLOAT, ['N', len(weights)]
            )
        ],
        [
            numpy_helper.from_array(
                np.ascontiguousarray(weights.T, np.float32), 'weights'
            )
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8
    )
    checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def write_tiny_manifest(
    folder: Path,
    classes: tuple[str, ...],
    threshold: float | None,
    size: tuple[int, int] = SIZE,
    source: dict | None = None,
    **files,
) -> None:
    """Write ``manifest.json`` for files that are there."""
    write_manifest(
        ClassifierManifest(
            name='tiny',
            architecture='two layers',
            parameters=9,
            classes=classes,
            input=InputSpec(size, 'area', 'RGB', MEAN, STD),
            temperature=2.0,
            threshold=Threshold(threshold, 'a rule', 0.5, 0.9, 20),
            files=files,
            source=source or dict(run='tiny'),
            metrics=dict(val=dict(), test=None),
            checks=dict(),
            calibration_images=0,
            licence='none',
            notice='no diagnostic device',
            created='2026-01-02T03:04:05+00:00',
        ),
        folder,
    )


def expected(rgb: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Probabilities (C,), for images of a whole multiple of ``SIZE``."""
    height, width = SIZE
    rows, columns = rgb.shape[0] // height, rgb.shape[1] // width
    blocks = rgb.astype(np.float64).reshape(height, rows, width, columns, 3)
    small = np.rint(blocks.mean((1, 3)))
    pooled = ((small - MEAN) / STD).mean((0, 1))
    logits = scale * WEIGHTS.astype(np.float64) @ pooled / 2.0
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()
