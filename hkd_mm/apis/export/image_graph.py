# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From images to what the net is fed, as ONNX operators."""

import numpy as np
import onnx.helper
import onnx.inliner
import onnx.numpy_helper
import onnx.shape_inference
from onnx import ModelProto
from onnxscript import opset18 as op
from onnxscript import script
from onnxscript.onnx_types import FLOAT, INT64, UINT8, UINT16

from hkd_mm.inference.manifest_fields import InputSpec

from .resize_graph import OWN, resized, resized_deep


@script(OWN, default_opset=op)
def _prepare(
    images: UINT8['N', 'H', 'W', 'C'],  # noqa: F821
    size: INT64[2],
    low: FLOAT,
    factor: FLOAT,
    mean: FLOAT[1, 'C', 1, 1],  # noqa: F821
    std: FLOAT[1, 'C', 1, 1],  # noqa: F821
) -> FLOAT['N', 'C', 'h', 'w']:  # noqa: F821
    values = (resized(images, size) - low) * factor
    return (op.Clip(values, 0.0, 255.0) - mean) / std


@script(OWN, default_opset=op)
def _prepare_deep(
    images: UINT16['N', 'H', 'W', 'C'],  # noqa: F821
    size: INT64[2],
    low: FLOAT,
    factor: FLOAT,
    mean: FLOAT[1, 'C', 1, 1],  # noqa: F821
    std: FLOAT[1, 'C', 1, 1],  # noqa: F821
) -> FLOAT['N', 'C', 'h', 'w']:  # noqa: F821
    values = (resized_deep(images, size) - low) * factor
    return (op.Clip(values, 0.0, 255.0) - mean) / std


def preparing_graph(spec: InputSpec) -> ModelProto:
    """What makes a net's input of images.

    Args:
        spec: what the net is fed.

    Returns:
        A model from ``images`` uint8 or uint16 (N, H, W, C), RGB or grey, of
        any size, to ``prepared`` float32 (N, C, h, w), windowed and
        normalised.
    """
    script = _prepare_deep if spec.bits == 16 else _prepare
    model = onnx.inliner.inline_local_functions(script.to_model_proto())
    graph = model.graph
    planar = (1, spec.channels, 1, 1)
    values = dict(
        size=np.array(spec.size, np.int64),
        **_window(spec),
        mean=np.array(spec.mean, np.float32).reshape(planar),
        std=np.array(spec.std, np.float32).reshape(planar),
    )
    for given in list(graph.input):
        if given.name in values:
            graph.input.remove(given)
    graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name)
        for name, value in values.items()
    )
    for value in (graph.input[0], graph.output[0]):
        place = 3 if value is graph.input[0] else 1
        value.type.tensor_type.shape.dim[place].dim_value = spec.channels
    _replace_cast_like(model)
    return model


def _replace_cast_like(model: ModelProto) -> None:
    """Name the type that each ``CastLike`` casts to, in place.

    ONNX Runtime has no kernel of ``CastLike``: whoever opens a graph with it
    reads a warning for each constant that could not be folded.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    types |= {value.name: value.data_type for value in graph.initializer}
    for node in model.graph.node:
        if node.op_type == 'CastLike':
            node.op_type = 'Cast'
            kind = types[node.input.pop()]
            node.attribute.append(onnx.helper.make_attribute('to', kind))


def _window(spec: InputSpec) -> dict[str, np.ndarray]:
    """What is taken off and what it is multiplied by, as 0-d float32."""
    low, width = 0.0, float(2**spec.bits - 1)
    if spec.window is not None:
        centre, width = spec.window
        low = centre - width / 2
    return dict(
        low=np.array(low, np.float32), factor=np.array(255 / width, np.float32)
    )
