"""Pixels read at computed positions, in any number of dimensions (spatial transformers).

A sample is a sum over the pixels around its position (1, 2 or 4 along an axis), with weights that
are polynomials of the position. So the derivative by the picture adds dy times the weights back to
those pixels, and the derivative by the grid is that of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.rules.arithmetic import _x, _y
from onnxcam_export.gradient.rules.through import through
from onnxcam_export.gradient.shapes import (
    dims,
    int_attribute,
    is_half,
    rank,
    reshape_like,
    string_attribute,
    zeros_like,
)

# Weights of the pixels around a position t behind the first (the second for the cubic): a
# polynomial in t each, coefficients of the highest power first.
_LINEAR = np.array([[-1, 1], [1, 0]])
_A = -0.75  # Keys, Cubic Convolution Interpolation, IEEE TASSP 29 (1981), as torch and onnx have it
_CUBIC = np.array([[_A, _A + 2, -_A - 2, -_A], [-2 * _A, -_A - 3, 2 * _A + 3, _A], [_A, 0, -_A, 0],
                   [0, 1, 0, 0]])  # fmt: skip
_POLYNOMIALS = {"linear": (_LINEAR, 0), "bilinear": (_LINEAR, 0), "cubic": (_CUBIC, -1),
                "bicubic": (_CUBIC, -1)}  # fmt: skip

Length = int | ir.Value  # a size as a number where it is fixed, else as a scalar of the graph


def _sampled(op: Ops, n: ir.Node) -> Sequence[ir.Value]:
    """y = sum over the taps of weight * pixel, as Gather, Mul and ReduceSum."""
    x, grid = _x(n), _x(n, 1)
    axes = rank(x) - 2
    # Positions in float32 at least: float16 tells no pixels apart beyond 2048.
    grid = op.Cast(grid, to=ir.DataType.FLOAT) if is_half(grid) else grid
    positions = op.Reshape(grid, op.ints(0, -1, axes))
    indices, weights = [], []
    for axis in range(axes):
        at = op.Gather(positions, op.const(np.array(axes - 1 - axis)), axis=2)
        index, weight = _taps(op, n, at, length_of(op, x, axis + 2))
        indices.append(index)
        weights.append(weight)
    y = weighted_pixels(op, x, indices, weights)
    return [reshape_like(op, op.Transpose(y, perm=[0, 2, 1]), _y(n))]


def weighted_pixels(
    op: Ops, x: ir.Value, indices: Sequence[ir.Value], weights: Sequence[ir.Value]
) -> ir.Value:
    """Sums [N, P, C] over pixels of x [N, C, *spatial] times weights, at P positions.

    Args:
        op: collects the emitted nodes.
        x: the picture.
        indices: for each spatial axis the pixels [N, P, taps] along it, int64.
        weights: their weights along it, [N, P, taps].
    """
    index = indices[0]
    for axis in range(1, rank(x) - 2):  # row-major: index * size + index along the next axis
        row = op.Mul(index, length_of(op, x, axis + 2))
        index = _outer(op, op.Add, row, indices[axis])
    weight = reduce(lambda a, b: _outer(op, op.Mul, a, b), weights)
    pixels = op.Transpose(x, perm=[0, *range(2, rank(x)), 1])
    pixels = op.Reshape(pixels, op.Concat(op.ints(-1), op.Shape(x, start=1, end=2), axis=0))
    rows = op.Gather(pixels, op.Add(index, _first_rows(op, x)), axis=0)  # [N, P, taps, C]
    weight = op.Cast(weight, to=x.dtype) if weight.dtype != x.dtype else weight
    return op.ReduceSum(op.Mul(rows, op.Unsqueeze(weight, op.ints(3))), op.ints(2), keepdims=0)


def length_of(op: Ops, x: ir.Value, axis: int) -> Length:
    """The size of an axis."""
    size = dims(x)[axis]
    return size if size is not None else op.Squeeze(op.Shape(x, start=axis, end=axis + 1))


def _first_rows(op: Ops, x: ir.Value) -> ir.Value:
    """The row of each picture's first pixel, [N, 1, 1]."""
    shape = op.Shape(x)
    pixels = op.ReduceProd(op.Slice(shape, op.ints(2), op.ints(rank(x))), keepdims=0)
    count = op.Squeeze(op.Slice(shape, op.ints(0), op.ints(1)))
    zero, one = (op.const(np.array(i)) for i in (0, 1))
    return op.Reshape(op.Mul(op.Range(zero, count, one), pixels), op.ints(-1, 1, 1))


def _outer(op: Ops, combine: object, a: ir.Value, b: ir.Value) -> ir.Value:
    """[N, P, A] and [N, P, B] to [N, P, A B]."""
    assert callable(combine)
    both: ir.Value = combine(op.Unsqueeze(a, op.ints(3)), op.Unsqueeze(b, op.ints(2)))
    return op.Reshape(both, op.ints(0, 0, -1))


def _taps(op: Ops, n: ir.Node, at: ir.Value, length: Length) -> tuple[ir.Value, ir.Value]:
    """Indices int64 and weights [N, P, taps] of the pixels along one axis, for positions [N, P].

    onnxruntime's order is kept: denormalise, round (nearest), bring a position beyond the border
    back, then bring back each pixel that lies beyond it.
    """
    mode = string_attribute(n, "mode", "linear")
    padding = string_attribute(n, "padding_mode", "zeros")
    size = length if isinstance(length, int) else op.Cast(length, to=at.dtype)
    last = op.Sub(size, 1.0) if isinstance(size, ir.Value) else float(size - 1)
    if int_attribute(n, "align_corners", 0):
        low, high = 0.0, last
        place = op.Mul(op.Add(at, 1.0), _half(op, last))
    else:
        low, high = -0.5, op.Add(last, 0.5) if isinstance(last, ir.Value) else last + 0.5
        scaled = op.Mul(op.Add(at, 1.0), float(size) if isinstance(size, int) else size)
        place = op.Mul(op.Sub(scaled, 1.0), 0.5)
    if mode == "nearest":
        place = op.Round(place)
    beyond = op.Or(op.Less(place, low), op.Greater(place, high))
    if padding == "border" and mode not in ("cubic", "bicubic"):
        # Cubic brings back its pixels only, in onnxruntime since 1.19 and in PyTorch (not in
        # onnx's reference evaluator): the position says how far outside it is.
        place = op.Where(beyond, op.Clip(place, 0.0, last), place)
    elif padding == "reflection":
        place = op.Where(beyond, _reflected(op, place, low, high), place)
    place = op.Unsqueeze(place, op.ints(2))
    if mode == "nearest":
        weight = op.Expand(op.const(1.0, at.dtype), op.Shape(place))
        pixel = place
    else:
        polynomial, first = _POLYNOMIALS[mode]
        start = op.Floor(place)
        # By way of an integer, through which nothing flows: Floor's derivative is 0 anyway.
        start = op.Cast(op.Cast(start, to=ir.DataType.INT64), to=at.dtype)
        t = op.Sub(place, start)
        weight = op.const(polynomial[0], at.dtype)
        for coefficients in polynomial[1:]:
            weight = op.Add(op.Mul(weight, t), coefficients)
        pixel = op.Add(start, first + np.arange(polynomial.shape[1]))
    if padding == "reflection":
        pixel = _reflected(op, pixel, low, high)
    index = op.Clip(pixel, 0.0, last)
    if padding == "zeros":
        weight = op.Where(op.Equal(index, pixel), weight, 0.0)
    return op.Cast(index, to=ir.DataType.INT64), weight


def _half(op: Ops, value: float | ir.Value) -> float | ir.Value:
    return op.Mul(value, 0.5) if isinstance(value, ir.Value) else value / 2


def _reflected(op: Ops, value: ir.Value, low: float, high: float | ir.Value) -> ir.Value:
    """A triangle wave between the borders: low + min(u, 2 r - u), u = |value - low| mod 2 r."""
    if isinstance(high, ir.Value):
        # Of one pixel the range can be empty: any number above 0 then does, for the Clip behind.
        span: float | ir.Value = op.Max(op.Sub(high, low), 0.5)
        period: float | ir.Value = op.Mul(span, 2.0)
    else:
        period = 2 * max(high - low, 0.5)
    wave = op.Mod(op.Abs(op.Sub(value, low)), period, fmod=1)
    return op.Add(op.Min(wave, op.Sub(period, wave)), low)


_through_taps = through(_sampled)


def _grid_sample(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    by_x, by_grid = _through_taps(op, n, dy)
    if string_attribute(n, "mode", "linear") == "nearest":
        return [by_x, lambda: zeros_like(op, _x(n, 1))]  # as torch has it: a step function
    return [by_x, by_grid]


def _affine_grid(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    """y[.., :] = theta [N, D, D + 1] times (x, y, .., 1) at each position, x along the last axis.

    So each column of theta gets the sum of dy times that coordinate: summed over the other axes
    first, since the coordinate is the same along them.
    """
    sizes = dims(_y(n))[1:-1]
    spatial = range(1, len(sizes) + 1)
    columns = []
    for axis, size in reversed(list(zip(spatial, sizes, strict=True))):
        if size is None:
            raise UnsupportedOpError(
                "the size of its grid is not fixed; fix the model's input size"
            )
        others = [a for a in spatial if a != axis]
        sums = op.ReduceSum(dy, op.ints(*others), keepdims=0) if others else dy  # [N, size, D]
        if int_attribute(n, "align_corners", 0):
            at = np.linspace(-1, 1, size)
        else:
            at = (2 * np.arange(size) + 1) / size - 1
        columns.append(op.MatMul(op.const(at[None], dy.dtype), sums))
    ones = op.ReduceSum(dy, op.ints(*spatial), keepdims=0)
    columns.append(op.Unsqueeze(ones, op.ints(1)))
    return [op.Transpose(op.Concat(*columns, axis=1), perm=[0, 2, 1]), None]


TABLE = {("", "GridSample"): _grid_sample, ("", "AffineGrid"): _affine_grid}
