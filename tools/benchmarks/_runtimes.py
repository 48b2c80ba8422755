# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A student in one runtime, in a process of its own: a worker of ``runtimes.py``.

It needs NumPy and the runtime, nothing of hkd_mm, so that the Python of another
environment can run it. The folder has ``student.onnx``, ``images.npy`` and
``calibration.npy`` (N, 3, H, W) float32; files made of the student are put there.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Call = Callable[[np.ndarray], np.ndarray]  # (1, 3, H, W) to (1, C)


class Runtime(NamedTuple):
    """How a runtime is got, and opened."""

    title: str
    precision: str
    packages: str  # for pip; the first one's version is told
    files: tuple[str, ...]  # what a program ships
    open: Callable[[Path, tuple[str, ...]], Call]


def onnx_runtime(folder: Path, files: tuple[str, ...]) -> Call:
    """ONNX Runtime; the graph was written by the parent."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / files[0]), options, providers=['CPUExecutionProvider']
    )
    return lambda image: session.run(None, dict(images=image))[0]


def openvino(folder: Path, files: tuple[str, ...], **more: str) -> Call:
    """OpenVINO reads the ONNX file itself."""
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / files[0])
    model.reshape([1, *np.load(folder / 'images.npy', mmap_mode='r').shape[1:]])
    words = dict(INFERENCE_NUM_THREADS='1', NUM_STREAMS='1', **more)
    compiled = core.compile_model(model, 'CPU', words)
    return lambda image: compiled(image)[0]


def openvino_float32(folder: Path, files: tuple[str, ...]) -> Call:
    """OpenVINO told to compute in float32."""
    return openvino(folder, files, INFERENCE_PRECISION_HINT='f32')


def ncnn(folder: Path, files: tuple[str, ...]) -> Call:
    """ncnn, converted by pnnx with float32 weights."""
    import subprocess

    import ncnn

    shape = list(np.load(folder / 'images.npy', mmap_mode='r').shape[1:])
    program = Path(sys.executable).with_name('pnnx')
    sizes = f'inputshape={[1, *shape]}'.replace(' ', '')
    words = [str(program), 'student.onnx', sizes, 'fp16=0']
    subprocess.run(words, cwd=folder, check=True, stdout=sys.stderr)
    network = ncnn.Net()
    network.opt.num_threads = 1
    network.opt.use_vulkan_compute = False
    for option in ('fp16_packed', 'fp16_storage', 'fp16_arithmetic', 'bf16_storage'):
        setattr(network.opt, f'use_{option}', False)
    network.load_param(str(folder / files[0]))
    network.load_model(str(folder / files[1]))

    def call(image: np.ndarray) -> np.ndarray:
        extractor = network.create_extractor()
        extractor.input('in0', ncnn.Mat(image[0]))
        return np.array(extractor.extract('out0')[1])[None]

    return call


def litert(folder: Path, files: tuple[str, ...]) -> Call:
    """LiteRT, converted from torch."""
    import litert_torch

    example = (_images(folder)[:1],)
    litert_torch.convert(_torch_network(folder), example).export(folder / files[0])
    return _interpreter(folder / files[0])


def litert_int8(folder: Path, files: tuple[str, ...]) -> Call:
    """LiteRT in int8, activations too, a scale for each channel of weights."""
    import litert_torch
    from ai_edge_quantizer import quantizer, recipe

    path, images = folder / 'float.tflite', _images(folder, 'calibration')
    litert_torch.convert(_torch_network(folder), (images[:1],)).export(path)
    maker = quantizer.Quantizer(str(path), recipe.static_wi8_ai8())
    (name,) = _open_tflite(path).get_signature_list()['serving_default']['inputs']
    seen = [{name: image[None].numpy()} for image in images]
    ranges = maker.calibrate(dict(serving_default=seen))
    maker.quantize(ranges).export_model(str(folder / files[0]), overwrite=True)
    return _interpreter(folder / files[0])


def _open_tflite(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    network = Interpreter(model_path=str(path), num_threads=1)
    network.allocate_tensors()
    return network


def _interpreter(path: Path) -> Call:
    network = _open_tflite(path)
    given, found = network.get_input_details()[0], network.get_output_details()[0]

    def call(image: np.ndarray) -> np.ndarray:
        if given['dtype'] == np.int8:  # of an int8 file the program does both ends
            scale, zero = given['quantization']
            image = np.clip(np.rint(image / scale) + zero, -128, 127).astype(np.int8)
        network.set_tensor(given['index'], image)
        network.invoke()
        logits = network.get_tensor(found['index'])
        if found['dtype'] == np.int8:
            scale, zero = found['quantization']
            logits = (logits.astype(np.float32) - zero) * np.float32(scale)
        return logits

    return call


def executorch(folder: Path, files: tuple[str, ...], int8: str = '') -> Call:
    """ExecuTorch with XNNPACK, as ``tools/export.py --executorch`` lowers it."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
        XnnpackPartitioner,
    )
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime as ExecuTorch

    network, example = _torch_network(folder), (_images(folder)[:1],)
    if int8:
        network = _quantised(network, _images(folder, 'calibration'), int8 == 'joined')
    program = to_edge_transform_and_lower(
        torch.export.export(network, example), partitioner=[XnnpackPartitioner()]
    ).to_executorch()
    (folder / files[0]).write_bytes(program.buffer)
    portable_lib._unsafe_reset_threadpool(1)
    method = ExecuTorch.get().load_program(folder / files[0]).load_method('forward')
    return lambda image: method.execute([torch.from_numpy(image)])[0].numpy()


def executorch_int8(folder: Path, files: tuple[str, ...]) -> Call:
    """The same after torch's own quantisation (PT2E) for XNNPACK."""
    return executorch(folder, files, int8='alone')


def executorch_joined(folder: Path, files: tuple[str, ...]) -> Call:
    """The same, where ranges are those behind a ReLU6, not before it."""
    return executorch(folder, files, int8='joined')


def _quantised(network: Any, images: Any, joined: bool) -> Any:
    import torch
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
    from torchao.quantization.pt2e import quantize_pt2e

    words = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    quantiser = xnnpack.XNNPACKQuantizer().set_global(words)
    network = torch.export.export(network, (images[:1],)).module()
    network = quantize_pt2e.prepare_pt2e(network, quantiser)
    for clip in list(network.graph.nodes) if joined else ():
        if clip.target == torch.ops.aten.hardtanh.default:
            observer = clip.args[0]
            clip.replace_input_with(observer, observer.args[0])
            network.graph.erase_node(observer)
    network.recompile()
    with torch.no_grad():
        for image in images:
            network(image[None])
    return quantize_pt2e.convert_pt2e(network)


def _images(folder: Path, name: str = 'images') -> Any:
    import torch

    return torch.from_numpy(np.load(folder / f'{name}.npy'))


def _torch_network(folder: Path) -> Any:
    """The ONNX graph as a module of torch, of operators that small students have."""
    import onnx
    import torch
    from onnx import helper, numpy_helper
    from torch.nn import functional

    graph = onnx.load(folder / 'student.onnx').graph

    def conv(node: Any, x: Any, weight: Any, bias: Any = None) -> Any:
        words = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        pads = words.get('pads', [0, 0, 0, 0])
        if pads[:2] != pads[2:]:
            x = functional.pad(x, (pads[1], pads[3], pads[0], pads[2]))
            pads = [0, 0]
        more = (words.get('strides', 1), pads[:2], words.get('dilations', 1))
        return functional.conv2d(x, weight, bias, *more, words.get('group', 1))

    def clip(node: Any, x: Any, low: Any, high: Any) -> Any:
        return functional.hardtanh(x, float(low), float(high))

    operators: dict[str, Callable[..., Any]] = dict(
        Conv=conv,
        Clip=clip,
        Relu=lambda node, x: functional.relu(x),
        HardSigmoid=lambda node, x: functional.hardsigmoid(x),
        HardSwish=lambda node, x: functional.hardswish(x),
        Sigmoid=lambda node, x: torch.sigmoid(x),
        Add=lambda node, x, y: x + y,
        Mul=lambda node, x, y: x * y,
        ReduceMean=lambda node, x, axes: x.mean(axes.tolist(), keepdim=True),
        GlobalAveragePool=lambda node, x: x.mean((2, 3), keepdim=True),
        Reshape=lambda node, x, shape: x.flatten(1),
        Flatten=lambda node, x: x.flatten(1),
        Gemm=lambda node, x, weight, bias: functional.linear(x, weight, bias),
    )
    unknown = {node.op_type for node in graph.node} - set(operators)
    if unknown:
        raise ValueError(f'no operator of torch is known for {", ".join(unknown)}')

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fixed = {}
            for value in graph.initializer:
                tensor = torch.from_numpy(numpy_helper.to_array(value).copy())
                if tensor.ndim and tensor.is_floating_point():
                    self.register_buffer(value.name.replace('.', '_'), tensor)
                else:
                    self.fixed[value.name] = tensor

        def forward(self, images: Any) -> Any:
            values = dict(images=images)

            def named(name: str) -> Any:
                found = values.get(name, self.fixed.get(name))
                return getattr(self, name.replace('.', '_')) if found is None else found

            for node in graph.node:
                given = [named(name) for name in node.input]
                values[node.output[0]] = operators[node.op_type](node, *given)
            return values[graph.output[0].name]

    return Network().eval()


_LITERT = 'ai-edge-litert litert-torch ai-edge-quantizer onnx'
_EXECUTORCH = 'executorch onnx'
_LAYER = 'int8, one scale a layer'
_JOINED = 'int8, joined to ReLU6'
RUNTIMES = dict(
    onnx=Runtime(
        'ONNX Runtime', 'float32', 'onnxruntime', ('student.onnx',), onnx_runtime
    ),
    onnx_int8=Runtime(
        'ONNX Runtime', 'int8', 'onnxruntime', ('student_int8.onnx',), onnx_runtime
    ),
    onnx_layer=Runtime(
        'ONNX Runtime', _LAYER, 'onnxruntime', ('student_layer.onnx',), onnx_runtime
    ),
    openvino=Runtime(
        'OpenVINO', 'float32', 'openvino', ('student.onnx',), openvino_float32
    ),
    openvino_default=Runtime(
        'OpenVINO', 'as it chooses', 'openvino', ('student.onnx',), openvino
    ),
    openvino_int8=Runtime(
        'OpenVINO', 'int8', 'openvino', ('student_int8.onnx',), openvino_float32
    ),
    litert=Runtime('LiteRT', 'float32', _LITERT, ('student.tflite',), litert),
    litert_int8=Runtime('LiteRT', 'int8', _LITERT, ('int8.tflite',), litert_int8),
    executorch=Runtime(
        'ExecuTorch', 'float32', _EXECUTORCH, ('student.pte',), executorch
    ),
    executorch_int8=Runtime(
        'ExecuTorch', 'int8', _EXECUTORCH, ('int8.pte',), executorch_int8
    ),
    executorch_joined=Runtime(
        'ExecuTorch', _JOINED, _EXECUTORCH, ('joined.pte',), executorch_joined
    ),
    ncnn=Runtime(
        'ncnn',
        'float32',
        'ncnn pnnx',
        ('student.ncnn.param', 'student.ncnn.bin'),
        ncnn,
    ),
)


def times(call: Call, image: np.ndarray, seconds: float) -> list[float]:
    """Milliseconds of calls, for so many seconds."""
    found: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        call(image)
        found.append(1e3 * (time.perf_counter() - begun))
    return found


def main(name: str, folder: Path) -> None:
    """Answer the images into ``NAME.npy``, then time as stdin asks for, a line each."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what libraries print

    def say(**words: Any) -> None:
        answers.write(json.dumps(words) + '\n')
        answers.flush()

    runtime = RUNTIMES[name]
    images = np.load(folder / 'images.npy')
    try:
        call = runtime.open(folder, runtime.files)
        logits = [np.array(call(image[None])) for image in images]
    except ImportError as error:
        return say(missing=str(error))
    except Exception as error:  # told in the parent's table
        return say(error=f'{type(error).__name__}: {error}'.splitlines()[0])
    np.save(folder / f'{name}.npy', np.concatenate(logits))
    package = runtime.packages.split()[0]
    size = sum((folder / file).stat().st_size for file in runtime.files)
    say(version=metadata.version(package), bytes=size)
    times(call, images[:1], 0.2)
    for line in sys.stdin:
        say(ms=times(call, images[:1], float(line)))


if __name__ == '__main__':
    main(sys.argv[1], Path(sys.argv[2]))
