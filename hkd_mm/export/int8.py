# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Static int8 of the student."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization import shape_inference

from hkd_mm.export.onnx_graphs import save, tidied

BATCH = 16  # images that calibration feeds together
_LAYERS = ('Conv', 'Gemm', 'MatMul')


class _Reader(quantization.CalibrationDataReader):
    """Feed batches to onnxruntime."""

    def __init__(self, batches: Iterator[np.ndarray]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else dict(images=batch)


def quantise(
    fp32: Path,
    out: Path,
    batches: Iterator[np.ndarray],
    weight_bits: int = 8,
) -> None:
    """Write the int8 graph of a network: QDQ, a scale a weight channel.

    Ranges of activations are the least and the most that calibration has
    seen. The first convolution and the last layer stay float32: they are
    small, and see the widest values.

    Args:
        fp32: of :func:`.graphs.export_network`.
        out: the file to write.
        batches: normalised training images, (B, C, H, W) float32 each.
        weight_bits: 8, or 7 for x86 processors without VNNI, where a sum of
            two products of eight bits overflows.
    """
    ready = out.with_name(f'{out.name}.ready')
    try:
        shape_inference.quant_pre_process(
            str(fp32), str(ready), skip_symbolic_shape=True
        )
        nodes = onnx.load(ready).graph.node
        first = [node.name for node in nodes if node.op_type == 'Conv'][:1]
        last = [node.name for node in nodes if node.op_type in _LAYERS][-1:]
        quantization.quantize_static(
            str(ready),
            str(out),
            _Reader(batches),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=weight_bits == 7,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            nodes_to_exclude=first + last,
        )
    finally:
        ready.unlink(missing_ok=True)
    save(tidied(onnx.load(out)), out)
