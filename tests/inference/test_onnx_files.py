# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""ONNX files that anybody may have written: refused in one line, in time."""

import time

import numpy as np
import pytest
from exported import CLASSES, SIZE, WEIGHTS, write_onnx, write_tiny_manifest

from hkd_mm.apis import SkinClassifier
from hkd_mm.errors import UserError
from hkd_mm.inference import backends
from hkd_mm.inference.manifest import file_spec

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT = TensorProto.FLOAT
STANDARD = helper.make_opsetid('', 17)


def value(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def load(folder, model) -> SkinClassifier:
    path = folder / 'student.onnx'
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    write_tiny_manifest(folder, CLASSES, 0.6, fp32=file_spec(path, 'tensor', 'logits'))
    return SkinClassifier(folder)


def tiny(folder) -> onnx.ModelProto:
    write_onnx(folder / 'student.onnx', WEIGHTS)
    return onnx.load(folder / 'student.onnx')


def endless(model, inside=False) -> None:
    """Multiply by one until the end of time."""
    body = helper.make_graph(
        [
            helper.make_node('Identity', ['go'], ['on']),
            helper.make_node('Identity', ['x'], ['y']),
        ],
        'body',
        [
            value('i', [], TensorProto.INT64),
            value('go', [], TensorProto.BOOL),
            value('x', ['N', 3]),
        ],
        [value('on', [], TensorProto.BOOL), value('y', ['N', 3])],
    )
    model.graph.node[-1].output[0] = 'right'
    yes = numpy_helper.from_array(np.array(True), 'yes')
    model.graph.initializer.append(yes)
    loop = helper.make_node('Loop', ['', 'yes', 'right'], ['logits'], body=body)
    if inside:
        graph = helper.make_graph([loop], 'then', [], [value('logits', ['N', 3])])
        loop = helper.make_node(
            'If', ['yes'], ['logits'], then_branch=graph, else_branch=graph
        )
    model.graph.node.append(loop)


def endless_inside(model) -> None:
    endless(model, inside=True)


def doubling(model) -> None:
    """Forty functions that call the one before twice."""
    model.opset_import.append(helper.make_opsetid('d', 1))
    for i in range(40):
        nodes = [helper.make_node('Identity', ['a'], ['b'])]
        if i:
            nodes = [
                helper.make_node(f'F{i - 1}', [one], [other], domain='d')
                for one, other in ('ac', 'cb')
            ]
        opsets = [helper.make_opsetid('d', 1), STANDARD]
        model.functions.append(
            helper.make_function('d', f'F{i}', ['a'], ['b'], nodes, opsets)
        )
    model.graph.node[-1].output[0] = 'right'
    model.graph.node.append(helper.make_node('F39', ['right'], ['logits'], domain='d'))


def external(model, where='elsewhere.bin') -> None:
    weights = model.graph.initializer[0]
    weights.ClearField('raw_data')
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key='location', value=where)


def external_constant(model) -> None:
    external(model)
    tensor = TensorProto()
    tensor.CopyFrom(model.graph.initializer[0])
    del model.graph.initializer[:]
    node = helper.make_node('Constant', [], ['weights'], value=tensor)
    model.graph.node.insert(0, node)


def custom(model) -> None:
    model.graph.node[0].domain = 'mine'
    model.opset_import.append(helper.make_opsetid('mine', 1))


def two_inputs(model) -> None:
    model.graph.input.append(value('more', [1]))


def no_such_opset(model) -> None:
    model.opset_import[0].version = 10_000


def no_such_ir(model) -> None:
    model.ir_version = 10_000


def other_size(model) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 10**9


def any_size(model) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = 'H'


def other_name(model) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = 'pixels'


def doubles(model) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    cast = helper.make_node('Cast', ['images'], ['floats'], to=FLOAT)
    model.graph.node[0].input[0] = 'floats'
    model.graph.node.insert(0, cast)


def impossible(model) -> None:
    """Fails when it runs, not when it is opened."""
    shape = numpy_helper.from_array(np.array([7, 1000], np.int64), 'shape')
    model.graph.initializer.append(shape)
    model.graph.node[-1].output[0] = 'right'
    model.graph.node.append(helper.make_node('Reshape', ['right', 'shape'], ['logits']))


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        (endless, 'Loop, which no exported network has'),
        (endless_inside, 'Loop, which no exported network has'),
        (doubling, 'functions, which no exported network has'),
        (external, 'data in other files, which no exported network has'),
        (external_constant, 'data in other files, which no exported network has'),
        (custom, 'cannot be opened by ONNX Runtime'),
        (no_such_opset, 'cannot be opened by ONNX Runtime'),
        (no_such_ir, 'cannot be opened by ONNX Runtime'),
        (two_inputs, 'is no exported network'),
        (other_name, 'is no exported network'),
        (doubles, 'is no exported network'),
        (other_size, r'\(3, 8, 6\) is wanted'),
        (any_size, r'\(3, 8, 6\) is wanted'),
        (impossible, 'does not run on images'),
    ],
    ids=lambda one: getattr(one, '__name__', None),
)
def test_odd_networks_are_refused(tmp_path, capfd, change, told):
    model = tiny(tmp_path)
    change(model)
    begun = time.monotonic()
    with pytest.raises(UserError, match=told) as error:
        load(tmp_path, model)
    assert time.monotonic() - begun < 20
    assert '\n' not in str(error.value) and 'student.onnx' in str(error.value)
    assert capfd.readouterr().err == ''


def test_weights_of_another_file_are_not_read_from_this_folder(tmp_path):
    """They are not in the manifest, whatever they hold."""
    model = tiny(tmp_path)
    (tmp_path / 'elsewhere.bin').write_bytes(bytes(36))
    external(model)
    with pytest.raises(UserError, match='data in other files'):
        load(tmp_path, model)


@pytest.mark.parametrize('content', [b'', b'\xff' * 50, b'no network', b':\x7f'])
def test_what_is_no_network_is_refused(tmp_path, content):
    with pytest.raises(UserError, match='student.onnx cannot be opened') as error:
        load(tmp_path, content)
    assert '\n' not in str(error.value)


def test_tags_of_needless_length_hide_nothing(tmp_path):
    """Protobuf reads 0x84 0x80 0x00 as 4, and so does the check."""
    model = tiny(tmp_path)
    endless(model)
    nodes = [node.SerializeToString() for node in model.graph.node]
    nodes[-1] = nodes[-1].replace(b'\x22\x04Loop', b'\xa2\x00\x84\x80\x00Loop')
    rest = onnx.GraphProto()
    rest.CopyFrom(model.graph)
    del rest.node[:]
    parts = [_field(1, node) for node in nodes]
    graph = b''.join(parts) + rest.SerializeToString()
    shell = onnx.ModelProto(ir_version=8, opset_import=[STANDARD])
    content = shell.SerializeToString() + _field(7, graph)
    assert onnx.load_from_string(content) == onnx.load_from_string(
        shell.SerializeToString() + _field(7, model.graph.SerializeToString())
    )
    with pytest.raises(UserError, match='Loop, which no exported network has'):
        load(tmp_path, content)


def _field(number: int, content: bytes) -> bytes:
    length, size = b'', len(content)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_a_first_image_that_takes_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, '_SECONDS', 0.5)
    monkeypatch.setattr(backends, '_ENDLESS', ())
    model = tiny(tmp_path)
    endless(model)
    begun = time.monotonic()
    with pytest.raises(UserError, match='does not run on images .*did not end'):
        load(tmp_path, model)
    assert 0.4 < time.monotonic() - begun < 20


def test_constants_that_take_too_long_are_refused(tmp_path, monkeypatch):
    """ONNX Runtime multiplies them when it opens the file."""
    monkeypatch.setattr(backends, '_SECONDS', 0.05)
    model = tiny(tmp_path)
    shape = numpy_helper.from_array(np.array([1500, 1500], np.int64), 'shape')
    model.graph.initializer.append(shape)
    model.graph.node[-1].output[0] = 'right'
    names = [f'm{i}' for i in range(8)]
    nodes = [helper.make_node('ConstantOfShape', ['shape'], ['m0'])]
    for one, other in zip(names, names[1:]):
        nodes.append(helper.make_node('MatMul', [one, 'm0'], [other]))
    nodes.append(helper.make_node('ReduceMean', names[-1:], ['mean'], keepdims=0))
    nodes.append(helper.make_node('Add', ['right', 'mean'], ['logits']))
    model.graph.node.extend(nodes)
    with pytest.raises(UserError, match='cannot be opened .*did not end') as error:
        load(tmp_path, model)
    assert '\n' not in str(error.value)


def test_an_export_is_opened_all_the_same(tmp_path):
    black = np.zeros((*SIZE, 3), np.uint8)
    assert load(tmp_path, tiny(tmp_path))(black).best in CLASSES
