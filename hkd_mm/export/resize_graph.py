# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``cv2.INTER_AREA`` as ONNX operators.

Along each axis a pixel is a weighted sum of a few of the source ("taps"), with
weights computed from the image's size in the graph. When no side is enlarged,
it is the mean of the area it covers; whole factors are sums of whole numbers,
divided once. When any side is enlarged, cv2 takes two neighbours a pixel
instead, of 8 bits with weights of 11 bits, in whole numbers; of 16 bits in floats.

Taps are added one at a time, columns before rows, as cv2 does: where a mean ends
in .5, the order of the float32 sums decides how it is rounded.
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
def _taps(out, scale):
    """Source pixels that each one of the output may need, (taps, out) double."""
    count = op.Cast(op.Ceil(scale), to=_INT64) + 1
    taps = op.Unsqueeze(op.Cast(op.Range(0, count, 1), to=_DOUBLE), [1])
    return taps + op.Floor(op.Cast(op.Range(0, out, 1), to=_DOUBLE) * scale)


@script(OWN, default_opset=op)
def _areas(taps, side, out, scale):
    """Share of each tap in its pixel of the output, (taps, out)."""
    zero = op.CastLike(0.0, scale)
    one = op.CastLike(1.0, scale)
    least = op.CastLike(_LEAST, scale)
    width = op.Cast(side, to=_DOUBLE)
    start = op.Cast(op.Range(0, out, 1), to=_DOUBLE) * scale
    end = start + scale
    cell = op.Min(scale, width - start)
    last = op.Min(op.Floor(end), width - one)
    first = op.Min(op.Ceil(start), last)
    before = first - start
    after = end - last
    inner = op.And(taps >= first, taps < last)
    head = op.And(taps == first - one, before > least)
    tail = op.And(taps == last, after > least)
    rest = op.Where(tail, op.Min(op.Min(after, one), cell), zero)
    covered = op.Where(head, before, op.Where(inner, one, rest))
    return op.Cast(covered / cell, to=_FLOAT)


@script(OWN, default_opset=op)
def _blocks(taps, out, scale):
    """1 where a tap lies in its pixel of the output, (taps, out)."""
    rows = op.Cast(op.Range(0, out, 1), to=_DOUBLE)
    return op.Cast(op.Floor(taps / op.Round(scale)) == rows, to=_FLOAT)


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
def _axis(side, out, scale, shrinks, whole, unit):
    """Taps and their weights along an axis, (taps, out) each.

    Shares of an area, 1 for those in a whole factor, or two neighbours of ``unit``.
    """
    taps = _taps(out, scale)
    areas = op.Where(whole, _blocks(taps, out, scale), _areas(taps, side, out, scale))
    index, second = _neighbours(side, out, scale)
    first = op.Where(unit > 1.0, op.Round((1.0 - second) * unit), 1.0 - second)
    second = op.Where(unit > 1.0, op.Round(second * unit), second)
    taps = op.Cast(taps, to=_INT64)
    pair = op.Where(taps == index, first, 0.0)
    pair = pair + op.Where(taps == index + 1, second, 0.0)
    return taps, op.Where(shrinks, areas, pair)


@script(OWN, default_opset=op)
def _sum(values, taps, weights):
    """Sums over axis 1 of (N, side, C, M), a tap at a time, (N, out, C, M)."""
    side = op.Shape(values, start=1, end=2)
    index = op.Min(taps, side - 1)
    shares = op.Unsqueeze(weights, [2, 3])
    total = op.Cast(op.Gather(values, op.Gather(index, 0), axis=1), to=_FLOAT)
    total = total * op.Gather(shares, 0)
    later, parts = index[1:], shares[1:]
    for tap in range(op.Squeeze(op.Shape(later, start=0, end=1))):
        more = op.Cast(op.Gather(values, op.Gather(later, tap), axis=1), to=_FLOAT)
        total = total + more * op.Gather(parts, tap)
    return total


@script(OWN, default_opset=op)
def _mixed_rows(rows, height, high, y):
    """Two rows mixed as cv2 does for 8 bits: shifts of whole numbers."""
    index, weight = _neighbours(height, high, y)
    sixteenths = op.Cast(op.Floor(rows / 16.0), to=_INT32)
    column = op.Unsqueeze(weight, [1, 2])
    lower = op.Cast(op.Round(column * _BITS), to=_INT32)
    upper = op.Cast(op.Round((1.0 - column) * _BITS), to=_INT32)
    two, unit = op.Cast(2, to=_INT32), op.Cast(65536, to=_INT32)
    beyond = op.Min(index + 1, height - 1)
    total = op.Gather(sixteenths, index, axis=1) * upper / unit
    total = total + op.Gather(sixteenths, beyond, axis=1) * lower / unit
    return op.Cast((total + two) / op.Cast(4, to=_INT32), to=_FLOAT)


@script(OWN, default_opset=op)
def _mean(total, whole, y, x):
    """What is summed over an area, rounded as cv2 does."""
    area = op.Round(y * x)
    quarters = op.And(op.And(whole, area == op.CastLike(4.0, area)), y == x)
    # by way of double: ONNX Runtime divides where it finds a float32 inverse
    inverse = op.Cast(op.CastLike(1.0, area) / area, to=_FLOAT)
    mean = op.Round(op.Where(whole, total * inverse, total))
    return op.Where(quarters, op.Floor((total + 2.0) / 4.0), mean)


@script(OWN, default_opset=op)
def _resized(images, out, unit):
    """Means (N, h, C, w), and what cv2 mixes them from where a side is enlarged."""
    height = op.Squeeze(op.Shape(images, start=1, end=2))
    width = op.Squeeze(op.Shape(images, start=2, end=3))
    high = op.Squeeze(op.Gather(out, [0]))
    wide = op.Squeeze(op.Gather(out, [1]))
    y, x = _scale(height, high), _scale(width, wide)
    shrinks = op.And(height >= high, width >= wide)
    whole = op.And(shrinks, op.And(_whole(y), _whole(x)))
    taps, weights = _axis(width, wide, x, shrinks, whole, unit)
    columns = _sum(op.Transpose(images, perm=[0, 2, 3, 1]), taps, weights)
    rows = op.Transpose(columns, perm=[0, 3, 2, 1])
    taps, weights = _axis(height, high, y, shrinks, whole, unit)
    mean = _mean(_sum(rows, taps, weights), whole, y, x)
    return mean, shrinks, rows, height, high, y


@script(OWN, default_opset=op)
def resized_deep(images, out):
    """(N, H, W, C) uint16 to (N, C, h, w), whole numbers as float32."""
    mean, shrinks, rows, height, high, y = _resized(images, out, 1.0)
    return op.Transpose(op.Clip(mean, 0.0, 65535.0), perm=[0, 2, 1, 3])


@script(OWN, default_opset=op)
def resized(images, out):
    """(N, H, W, C) uint8 to (N, C, h, w), whole numbers as float32."""
    mean, shrinks, rows, height, high, y = _resized(images, out, _BITS)
    answer = op.Where(shrinks, mean, _mixed_rows(rows, height, high, y))
    return op.Transpose(op.Clip(answer, 0.0, 255.0), perm=[0, 2, 1, 3])
