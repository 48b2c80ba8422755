# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The student as ONNX graphs, in float32 and int8, and for ExecuTorch."""

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import torch
from onnx import ModelProto, TensorProto
from onnxruntime import quantization
from onnxruntime.quantization import shape_inference
from onnxscript import OnnxFunction, script
from onnxscript import opset18 as op
from onnxscript.onnx_types import FLOAT, INT64, UINT8
from torch import Tensor, nn

from hkd_mm.errors import UserError, first_line
from hkd_mm.export.resize_graph import OPSET, OWN, resized, resized_deep
from hkd_mm.inference.run_folder import SourceRun
from hkd_mm.io.input_spec import InputSpec

BATCH = 16  # images that calibration feeds together
_LAYERS = ('Conv', 'Gemm', 'MatMul')
_REDUCING = ('ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceL2')


class _Logits(nn.Module):
    def __init__(self, network: nn.Module, swapped: bool) -> None:
        super().__init__()
        self.network, self.swapped = network, swapped

    def forward(self, images: Tensor) -> Tensor:
        images = images.flip(1) if self.swapped else images
        return self.network(images, mode='tensor')


def plain_network(run: SourceRun) -> nn.Module:
    """From normalised RGB images (N, 3, H, W) to logits (N, C)."""
    return _Logits(run.network, run.swapped).eval()


def export_network(run: SourceRun, opset: int = OPSET) -> onnx.ModelProto:
    """Make the graph: any batch, BatchNorm folded, weights inside.

    From ``images`` float32 (N, C, H, W) to ``logits`` (N, classes) or (N, classes, H,
    W).
    """
    example = torch.zeros(2, run.spec.channels, *run.spec.size)
    try:
        program = torch.onnx.export(
            plain_network(run),
            (example,),
            dynamo=True,
            opset_version=max(opset, OPSET),
            input_names=['images'],
            output_names=['logits'],
            dynamic_shapes=dict(images={0: torch.export.Dim('N')}),
            verbose=False,
        )
        model = tidied(program.model_proto)
        if opset < OPSET:
            model = onnx.version_converter.convert_version(model, opset)
            for node in model.graph.node:  # the converter leaves what 18 has added
                if node.op_type in _REDUCING:
                    kept = [
                        x for x in node.attribute if x.name != 'noop_with_empty_axes'
                    ]
                    del node.attribute[:]
                    node.attribute.extend(kept)
            model = tidied(model)
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise UserError(
            f'{run.architecture} cannot be written as ONNX of opset {opset} '
            f'({first_line(error)})'
        ) from error
    return model


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove, in place, unused opsets and what identifies the machine."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    for part in (model, graph, *graph.node, *values, *graph.initializer):
        part.ClearField('metadata_props')
        part.ClearField('doc_string')
    graph.name = 'student'
    del model.functions[:]
    used = {node.domain for node in graph.node}
    known = {one.domain: one for one in model.opset_import}
    opsets = [one for domain, one in known.items() if domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    model.ir_version = onnx.helper.find_min_ir_version_for(opsets)
    return model


def save(model: onnx.ModelProto, path: Path, ir_version: int | None = None) -> None:
    """Check the whole model and write it, in a later version of the format if given."""
    model.ir_version = ir_version or model.ir_version
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _script_of(resize: OnnxFunction) -> OnnxFunction:
    @script(OWN, default_opset=op)
    def prepare(
        images: UINT8['N', 'H', 'W', 'C'],  # noqa: F821
        size: INT64[2],
        low: FLOAT,
        factor: FLOAT,
        mean: FLOAT[1, 'C', 1, 1],  # noqa: F821
        std: FLOAT[1, 'C', 1, 1],  # noqa: F821
    ) -> FLOAT['N', 'C', 'h', 'w']:  # noqa: F821
        values = (resize(images, size) - low) * factor
        return (op.Clip(values, 0.0, 255.0) - mean) / std

    return prepare


def preparing_graph(spec: InputSpec) -> ModelProto:
    """Make the graph that prepares images for a network.

    From ``images`` uint8 or uint16 (N, H, W, C), RGB or grey, of any size, to
    ``prepared`` float32 (N, C, h, w), windowed and normalised.
    """
    script = _script_of(resized_deep if spec.bits == 16 else resized)
    model = onnx.inliner.inline_local_functions(script.to_model_proto())
    if spec.bits == 16:
        pixels = model.graph.input[0].type.tensor_type
        pixels.elem_type = TensorProto.UINT16
    graph = model.graph
    planar = (1, spec.channels, 1, 1)
    low, width = 0.0, float(2**spec.bits - 1)
    if spec.window is not None:
        centre, width = spec.window
        low = centre - width / 2
    values = dict(
        size=np.array(spec.size, np.int64),
        low=np.array(low, np.float32),
        factor=np.array(255 / width, np.float32),
        mean=np.array(spec.mean, np.float32).reshape(planar),
        std=np.array(spec.std, np.float32).reshape(planar),
    )
    for given in list(graph.input):
        if given.name in values:
            graph.input.remove(given)
    graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in values.items()
    )
    for value in (graph.input[0], graph.output[0]):
        index = 3 if value is graph.input[0] else 1
        value.type.tensor_type.shape.dim[index].dim_value = spec.channels
    _replace_cast_like(model)
    return model


def _replace_cast_like(model: ModelProto) -> None:
    """Name the type each ``CastLike`` casts to: ONNX Runtime has no kernel."""
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


def whole_graph(
    network: onnx.ModelProto, spec: InputSpec, temperature: float
) -> onnx.ModelProto:
    """Put the resize before a network and softmax or sigmoid behind it.

    From ``images`` of any size to ``probabilities`` of the shape of the logits.
    """
    before = preparing_graph(spec)
    after = _activation(network, temperature)
    for part in (before, after):
        part.ir_version = network.ir_version
        del part.opset_import[:]
        part.opset_import.extend(network.opset_import)
    before = onnx.compose.add_prefix(before, 'prepare/')
    network = onnx.compose.add_prefix(network, 'net/')
    after = onnx.compose.add_prefix(after, 'answer/')
    prepared = before.graph.output[0].name
    model = onnx.compose.merge_models(
        before, network, io_map=[(prepared, 'net/images')]
    )
    model = onnx.compose.merge_models(
        model, after, io_map=[('net/logits', 'answer/logits')]
    )
    _rename(model, 'prepare/images', 'images')
    _rename(model, 'answer/probabilities', 'probabilities')
    return tidied(model)


def _activation(network: onnx.ModelProto, temperature: float) -> onnx.ModelProto:
    """Softmax over the classes; sigmoid where there is one output a pixel."""
    helper = onnx.helper
    dims = network.graph.output[0].type.tensor_type.shape.dim
    shape = [dim.dim_value or dim.dim_param for dim in dims]
    alone = len(shape) == 4 and shape[1] == 1
    kind, options = ('Sigmoid', {}) if alone else ('Softmax', dict(axis=1))
    nodes = [
        helper.make_node('Div', ['logits', 'temperature'], ['tempered']),
        helper.make_node(kind, ['tempered'], ['probabilities'], **options),
    ]
    logits, probabilities = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ('logits', 'probabilities')
    )
    divisor = helper.make_tensor('temperature', TensorProto.FLOAT, [], [temperature])
    return helper.make_model(
        helper.make_graph(nodes, 'answer', [logits], [probabilities], [divisor])
    )


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    graph = model.graph
    for value in (*graph.input, *graph.output):
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


class _Reader(quantization.CalibrationDataReader):
    """Feed batches to onnxruntime."""

    def __init__(self, batches: Iterator[np.ndarray]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else dict(images=batch)


def quantise(
    fp32: Path, out: Path, batches: Iterator[np.ndarray], weight_bits: int = 8
) -> None:
    """Write the int8 graph of a network: QDQ, a scale a weight channel.

    Ranges of activations are those that calibration has seen, of normalised images (B,
    C, H, W) float32. The first convolution and the last layer stay float32: they are
    small, and see the widest values. ``weight_bits`` is 8, or 7 for x86 processors
    without VNNI, where a sum of two products of eight bits overflows.
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


def require_executorch() -> None:
    """Refuse to begin without ExecuTorch, or with one of another torch."""
    try:
        from executorch.backends.xnnpack.partition import (  # noqa: F401
            xnnpack_partitioner,
        )
        from executorch.exir import to_edge_transform_and_lower  # noqa: F401
        from executorch.runtime import Runtime  # noqa: F401
    except Exception as error:  # missing, or built for another torch
        raise UserError(
            '--executorch needs executorch in the version for torch '
            f'{torch.__version__} ({first_line(error)[:120]}); install it, or '
            'leave the option out'
        ) from None


def write_executorch(run: SourceRun, path: Path, images: np.ndarray) -> np.ndarray:
    """Lower the network to XNNPACK for one image at a time; logits of the file."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
        XnnpackPartitioner,
    )
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    example = (torch.zeros(1, run.spec.channels, *run.spec.size),)
    try:
        program = to_edge_transform_and_lower(
            torch.export.export(plain_network(run), example),
            partitioner=[XnnpackPartitioner()],
        ).to_executorch()
    except Exception as error:
        raise UserError(
            f'executorch {metadata.version("executorch")} with torch '
            f'{torch.__version__} cannot lower {run.architecture} '
            f'({first_line(error)[:160]}); leave --executorch out'
        ) from error
    path.write_bytes(program.buffer)
    method = Runtime.get().load_program(path).load_method('forward')
    parts = [
        method.execute([torch.from_numpy(image[None])])[0].numpy() for image in images
    ]
    return np.concatenate(parts)
