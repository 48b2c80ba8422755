# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One graph from an image to probabilities."""

import onnx.compose
import onnx.helper
from onnx import TensorProto

from hkd_mm.inference.manifest_fields import InputSpec

from .image_graph import preparing_graph
from .net_graph import tidied


def whole_graph(
    net: onnx.ModelProto, spec: InputSpec, temperature: float
) -> onnx.ModelProto:
    """Put the resize before a net and softmax or sigmoid behind it.

    Args:
        net: from ``images`` to ``logits``, float32 or int8.
        spec: what it is fed.
        temperature: that divides the logits.

    Returns:
        A model from ``images`` uint8 or uint16 (N, H, W, C), RGB or grey, of
        any size, to ``probabilities`` float32 (N, classes), or
        (N, classes, h, w) of a segmentor.
    """
    before = preparing_graph(spec)
    after = _activation(net, temperature)
    for part in (before, after):
        part.ir_version = net.ir_version
        del part.opset_import[:]
        part.opset_import.extend(
            one for one in net.opset_import if one.domain in ('', 'ai.onnx')
        )
    model = _merged(before, net, after)
    return tidied(model)


def _merged(
    before: onnx.ModelProto, net: onnx.ModelProto, after: onnx.ModelProto
) -> onnx.ModelProto:
    before = onnx.compose.add_prefix(before, 'prepare/')
    net = onnx.compose.add_prefix(net, 'net/')
    after = onnx.compose.add_prefix(after, 'answer/')
    first = before.graph.output[0].name
    model = onnx.compose.merge_models(
        before, net, io_map=[(first, 'net/images')]
    )
    model = onnx.compose.merge_models(
        model, after, io_map=[('net/logits', 'answer/logits')]
    )
    _rename(model, 'prepare/images', 'images')
    _rename(model, 'answer/probabilities', 'probabilities')
    return model


def _activation(net: onnx.ModelProto, temperature: float) -> onnx.ModelProto:
    """Softmax over the classes; sigmoid where there is one output a pixel."""
    helper = onnx.helper
    dims = net.graph.output[0].type.tensor_type.shape.dim
    shape = [dim.dim_value or dim.dim_param for dim in dims]
    alone = len(shape) == 4 and shape[1] == 1
    last = (
        helper.make_node('Sigmoid', ['tempered'], ['probabilities'])
        if alone
        else helper.make_node(
            'Softmax', ['tempered'], ['probabilities'], axis=1
        )
    )
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ('logits', 'probabilities')
    ]
    graph = helper.make_graph(
        [
            helper.make_node('Div', ['logits', 'temperature'], ['tempered']),
            last,
        ],
        'answer',
        ends[:1],
        ends[1:],
        [
            helper.make_tensor(
                'temperature', TensorProto.FLOAT, [], [temperature]
            )
        ],
    )
    return helper.make_model(graph)


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    graph = model.graph
    for value in (*graph.input, *graph.output):
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
