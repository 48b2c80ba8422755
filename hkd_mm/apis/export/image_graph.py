# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From photographs to what the net is fed, as ONNX operators.

The resize is ``cv2.INTER_AREA``. Along each axis it is a linear map whose
weights are computed from the image's size in the graph. When no side is
enlarged, a pixel is the mean of the area it covers; whole factors are sums of
whole numbers, divided once. When any side is enlarged, cv2 takes two
neighbours a pixel instead, with weights of 11 bits, in whole numbers.
"""

import numpy as np
import onnx.inliner
import onnx.numpy_helper
import onnxscript
from onnx import ModelProto, TensorProto
from onnxscript import opset18 as op
from onnxscript import script
from onnxscript.onnx_types import FLOAT, INT64, UINT8

from hkd_mm.inference.manifest_fields import InputSpec

OPSET = 18
_FLOAT, _DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
_INT32, _INT64 = TensorProto.INT32, TensorProto.INT64
_UINT8 = TensorProto.UINT8
_BITS = 2048.0  # 1 in cv2's weights of 11 bits
_LEAST = 1e-3  # of a pixel; cv2 leaves smaller overlaps out

_own = onnxscript.values.Opset('hkd_mm', 1)


@script(_own, default_opset=op)
def _scale(side, out):
    """Source pixels for one of the output, as cv2 rounds it."""
    one = op.Constant(value_float=1.0)
    inverse = op.Cast(out, to=_DOUBLE) / op.Cast(side, to=_DOUBLE)
    return op.Cast(one, to=_DOUBLE) / inverse


@script(_own, default_opset=op)
def _whole(scale):
    """Whether the factor is a whole number; its precision is cv2's."""
    return op.Abs(scale - op.Floor(scale)) < op.CastLike(2.220446e-16, scale)


@script(_own, default_opset=op)
def _areas(side, out, scale):
    """Share of each source pixel in each one of the output, (out, side)."""
    zero = op.CastLike(0.0, scale)
    one = op.CastLike(1.0, scale)
    least = op.CastLike(_LEAST, scale)
    columns = op.Cast(op.Range(0, side, 1), to=_DOUBLE)
    rows = op.Unsqueeze(op.Cast(op.Range(0, out, 1), to=_DOUBLE), [1])
    width = op.Cast(side, to=_DOUBLE)
    start = rows * scale
    end = start + scale
    cell = op.Min(scale, width - start)
    last = op.Min(op.Floor(end), width - one)
    first = op.Min(op.Ceil(start), last)
    before = first - start
    after = end - last
    inner = op.And(columns >= first, columns < last)
    head = op.And(columns == first - one, before > least)
    tail = op.And(columns == last, after > least)
    rest = op.Min(op.Min(after, one), cell)
    total = op.Where(head, before / cell, zero)
    total = total + op.Where(inner, one / cell, zero)
    total = total + op.Where(tail, rest / cell, zero)
    return op.Cast(total, to=_FLOAT)


@script(_own, default_opset=op)
def _blocks(side, out, scale):
    """1 where a source pixel lies in one of the output, (out, side)."""
    columns = op.Cast(op.Range(0, side, 1), to=_DOUBLE)
    rows = op.Unsqueeze(op.Cast(op.Range(0, out, 1), to=_DOUBLE), [1])
    inside = op.Floor(columns / scale) == rows
    return op.Cast(inside, to=_FLOAT)


@script(_own, default_opset=op)
def _neighbours(side, out, scale):
    """First of two source pixels and the second one's weight, (out,)."""
    rows = op.Cast(op.Range(0, out, 1), to=_DOUBLE)
    one = op.CastLike(1.0, scale)
    place = op.Floor(rows * scale)
    inverse = op.Cast(out, to=_DOUBLE) / op.Cast(side, to=_DOUBLE)
    offset = op.Cast((rows + one) - (place + one) * inverse, to=_FLOAT)
    weight = op.Where(offset <= 0.0, 0.0, offset - op.Floor(offset))
    last = op.Cast(side, to=_DOUBLE) - one
    weight = op.Where(place >= last, 0.0, weight)
    return op.Cast(op.Min(place, last), to=_INT64), weight


@script(_own, default_opset=op)
def _taps(side, place, weight):
    """The two neighbours' weights in 1 / 2048, (out, side)."""
    columns = op.Unsqueeze(op.Range(0, side, 1), [0])
    here = op.Unsqueeze(place, [1])
    second = op.Round(op.Unsqueeze(weight, [1]) * _BITS)
    first = op.Round((1.0 - op.Unsqueeze(weight, [1])) * _BITS)
    taps = op.Where(columns == here, first, 0.0)
    return taps + op.Where(columns == here + 1, second, 0.0)


@script(_own, default_opset=op)
def _mixed_rows(images, side, place, weight):
    """Two rows mixed as cv2 does for 8 bits: shifts of whole numbers."""
    sixteenths = op.Cast(op.Floor(images / 16.0), to=_INT32)
    column = op.Unsqueeze(weight, [1])
    lower = op.Cast(op.Round(column * _BITS), to=_INT32)
    upper = op.Cast(op.Round((1.0 - column) * _BITS), to=_INT32)
    two = op.Cast(2, to=_INT32)
    unit = op.Cast(65536, to=_INT32)
    beyond = op.Min(place + 1, side - 1)
    total = op.Gather(sixteenths, place, axis=2) * upper / unit
    total = total + op.Gather(sixteenths, beyond, axis=2) * lower / unit
    return op.Cast((total + two) / op.Cast(4, to=_INT32), to=_FLOAT)


@script(_own, default_opset=op)
def _resize(images, out):
    """(N, H, W, 3) uint8 to (N, 3, h, w), whole numbers as float32."""
    planes = op.Cast(op.Transpose(images, perm=[0, 3, 1, 2]), to=_FLOAT)
    height = op.Squeeze(op.Shape(planes, start=2, end=3))
    width = op.Squeeze(op.Shape(planes, start=3, end=4))
    high = op.Squeeze(op.Gather(out, [0]))
    wide = op.Squeeze(op.Gather(out, [1]))
    y, x = _scale(height, high), _scale(width, wide)
    shrinks = op.And(height >= high, width >= wide)
    whole = op.And(shrinks, op.And(_whole(y), _whole(x)))
    place_y, weight_y = _neighbours(height, high, y)
    place_x, weight_x = _neighbours(width, wide, x)
    blocks = op.Where(whole, _blocks(width, wide, x), _areas(width, wide, x))
    across = op.Where(shrinks, blocks, _taps(width, place_x, weight_x))
    rows = op.MatMul(planes, op.Transpose(across, perm=[1, 0]))
    down = op.Where(whole, _blocks(height, high, y), _areas(height, high, y))
    total = op.MatMul(down, rows)
    area = op.Cast(y * x, to=_FLOAT)
    quarters = op.And(whole, area == 4.0)
    quarters = op.And(quarters, _scale(height, high) == _scale(width, wide))
    mean = op.Round(op.Where(whole, total * (1.0 / area), total))
    mean = op.Where(quarters, op.Floor((total + 2.0) / 4.0), mean)
    mixed = _mixed_rows(rows, height, place_y, weight_y)
    return op.Clip(op.Where(shrinks, mean, mixed), 0.0, 255.0)


@script(_own, default_opset=op)
def _prepare(
    images: UINT8['N', 'H', 'W', 3],  # noqa: F821
    size: INT64[2],
    mean: FLOAT[1, 3, 1, 1],
    std: FLOAT[1, 3, 1, 1],
) -> FLOAT['N', 3, 'h', 'w']:  # noqa: F821
    return (_resize(images, size) - mean) / std


def preparing_graph(spec: InputSpec) -> ModelProto:
    """What makes a net's input of photographs.

    Args:
        spec: what the net is fed.

    Returns:
        A model from ``images`` uint8 (N, H, W, 3), RGB, of any size, to
        ``prepared`` float32 (N, 3, h, w), normalised.
    """
    model = onnx.inliner.inline_local_functions(_prepare.to_model_proto())
    graph = model.graph
    planar = (1, 3, 1, 1)
    values = dict(
        size=np.array(spec.size, np.int64),
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
    return model
