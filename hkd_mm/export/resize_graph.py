# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``cv2.INTER_AREA`` as ONNX operators.

Along each axis the resize is a linear map whose weights are computed from the
image's size in the graph. When no side is enlarged, a pixel is the mean of
the area it covers; whole factors are sums of whole numbers, divided once.
When any side is enlarged, cv2 takes two neighbours a pixel instead, of 8 bits
with weights of 11 bits, in whole numbers; of 16 bits in floats.
"""

import onnxscript
from onnx import TensorProto
from onnxscript import opset18 as op
from onnxscript import script

OPSET = 18
_FLOAT, _DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
_INT32, _INT64 = TensorProto.INT32, TensorProto.INT64
_UINT8 = TensorProto.UINT8
_BITS = 2048.0  # 1 in cv2's weights of 11 bits
_LEAST = 1e-3  # of a pixel; cv2 leaves smaller overlaps out

OWN = onnxscript.values.Opset('hkd_mm', 1)


@script(OWN, default_opset=op)
def _scale(side, out):
    """Source pixels for one of the output, as cv2 rounds it."""
    one = op.Constant(value_float=1.0)
    inverse = op.Cast(out, to=_DOUBLE) / op.Cast(side, to=_DOUBLE)
    return op.Cast(one, to=_DOUBLE) / inverse


@script(OWN, default_opset=op)
def _whole(scale):
    """Whether the factor is a whole number; its precision is cv2's."""
    return op.Abs(scale - op.Floor(scale)) < op.CastLike(2.220446e-16, scale)


@script(OWN, default_opset=op)
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


@script(OWN, default_opset=op)
def _blocks(side, out, scale):
    """1 where a source pixel lies in one of the output, (out, side)."""
    columns = op.Cast(op.Range(0, side, 1), to=_DOUBLE)
    rows = op.Unsqueeze(op.Cast(op.Range(0, out, 1), to=_DOUBLE), [1])
    inside = op.Floor(columns / scale) == rows
    return op.Cast(inside, to=_FLOAT)


@script(OWN, default_opset=op)
def _neighbours(side, out, scale):
    """First of two source pixels and the second one's weight, (out,)."""
    rows = op.Cast(op.Range(0, out, 1), to=_DOUBLE)
    one = op.CastLike(1.0, scale)
    index = op.Floor(rows * scale)
    inverse = op.Cast(out, to=_DOUBLE) / op.Cast(side, to=_DOUBLE)
    offset = op.Cast((rows + one) - (index + one) * inverse, to=_FLOAT)
    weight = op.Where(offset <= 0.0, 0.0, offset - op.Floor(offset))
    last = op.Cast(side, to=_DOUBLE) - one
    weight = op.Where(index >= last, 0.0, weight)
    return op.Cast(op.Min(index, last), to=_INT64), weight


@script(OWN, default_opset=op)
def _weights(side, index, first, second):
    """The two neighbours' weights in their columns, (out, side)."""
    columns = op.Unsqueeze(op.Range(0, side, 1), [0])
    here = op.Unsqueeze(index, [1])
    weights = op.Where(columns == here, op.Unsqueeze(first, [1]), 0.0)
    return weights + op.Where(columns == here + 1, op.Unsqueeze(second, [1]), 0.0)


@script(OWN, default_opset=op)
def _mixed_rows(images, side, index, weight):
    """Two rows mixed as cv2 does for 8 bits: shifts of whole numbers."""
    sixteenths = op.Cast(op.Floor(images / 16.0), to=_INT32)
    column = op.Unsqueeze(weight, [1])
    lower = op.Cast(op.Round(column * _BITS), to=_INT32)
    upper = op.Cast(op.Round((1.0 - column) * _BITS), to=_INT32)
    two = op.Cast(2, to=_INT32)
    unit = op.Cast(65536, to=_INT32)
    beyond = op.Min(index + 1, side - 1)
    total = op.Gather(sixteenths, index, axis=2) * upper / unit
    total = total + op.Gather(sixteenths, beyond, axis=2) * lower / unit
    return op.Cast((total + two) / op.Cast(4, to=_INT32), to=_FLOAT)


@script(OWN, default_opset=op)
def _sides(images, out):
    """Planes (N, C, H, W) as float32; height and width, there and wanted; factors."""
    planes = op.Cast(op.Transpose(images, perm=[0, 3, 1, 2]), to=_FLOAT)
    height = op.Squeeze(op.Shape(planes, start=2, end=3))
    width = op.Squeeze(op.Shape(planes, start=3, end=4))
    high = op.Squeeze(op.Gather(out, [0]))
    wide = op.Squeeze(op.Gather(out, [1]))
    y, x = _scale(height, high), _scale(width, wide)
    shrinks = op.And(height >= high, width >= wide)
    whole = op.And(shrinks, op.And(_whole(y), _whole(x)))
    return planes, height, width, high, wide, y, x, shrinks, whole


@script(OWN, default_opset=op)
def _shrinking(side, out, scale, whole):
    """Shares, or members of whole factors, (out, side)."""
    return op.Where(whole, _blocks(side, out, scale), _areas(side, out, scale))


@script(OWN, default_opset=op)
def _mean(total, whole, y, x):
    """What is summed over an area, rounded as cv2 does."""
    area = op.Cast(y * x, to=_FLOAT)
    quarters = op.And(op.And(whole, area == 4.0), y == x)
    mean = op.Round(op.Where(whole, total * (1.0 / area), total))
    return op.Where(quarters, op.Floor((total + 2.0) / 4.0), mean)


@script(OWN, default_opset=op)
def resized_deep(images, out):
    """(N, H, W, C) uint16 to (N, C, h, w), whole numbers as float32."""
    planes, height, width, high, wide, y, x, shrinks, whole = _sides(images, out)
    index_y, weight_y = _neighbours(height, high, y)
    index_x, weight_x = _neighbours(width, wide, x)
    mixed = _weights(width, index_x, 1.0 - weight_x, weight_x)
    across = op.Where(shrinks, _shrinking(width, wide, x, whole), mixed)
    mixed = _weights(height, index_y, 1.0 - weight_y, weight_y)
    down = op.Where(shrinks, _shrinking(height, high, y, whole), mixed)
    rows = op.MatMul(planes, op.Transpose(across, perm=[1, 0]))
    mean = _mean(op.MatMul(down, rows), whole, y, x)
    return op.Clip(mean, 0.0, 65535.0)


@script(OWN, default_opset=op)
def resized(images, out):
    """(N, H, W, C) uint8 to (N, C, h, w), whole numbers as float32."""
    planes, height, width, high, wide, y, x, shrinks, whole = _sides(images, out)
    index_y, weight_y = _neighbours(height, high, y)
    index_x, weight_x = _neighbours(width, wide, x)
    first, second = op.Round((1.0 - weight_x) * _BITS), op.Round(weight_x * _BITS)
    taps = _weights(width, index_x, first, second)
    across = op.Where(shrinks, _shrinking(width, wide, x, whole), taps)
    rows = op.MatMul(planes, op.Transpose(across, perm=[1, 0]))
    total = op.MatMul(_shrinking(height, high, y, whole), rows)
    mean = _mean(total, whole, y, x)
    mixed = _mixed_rows(rows, height, index_y, weight_y)
    return op.Clip(op.Where(shrinks, mean, mixed), 0.0, 255.0)
