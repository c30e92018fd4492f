"""RoiAlign: mean of bilinear samples in the bins of each region (arXiv 1703.06870).

The weights of a sample are products of one factor per axis, and so are their means over a bin:
with one matrix per region and axis, y[r, c] = rows[r] x[picture of r, c] columns[r]^T. So both
derivatives are matrix products; the alternative, scattering the gradient of each sample to its four
pixels, moves sampling_ratio^2 * 4 / 7 times as much for bins of 7 x 7.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.rules.arithmetic import _x
from onnxcam_export.gradient.rules.through import through
from onnxcam_export.gradient.shapes import (
    dims,
    float_attribute,
    int_attribute,
    is_half,
    string_attribute,
)


def _roi_align(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    if string_attribute(n, "mode", "avg") != "avg":
        raise UnsupportedOpError("mode 'max' has no derivative here; export the model with 'avg'")

    def by_regions() -> ir.Value:
        grad = _through_products(op, n, dy)[1]
        assert isinstance(grad, ir.Value)
        return grad

    return [lambda: _by_picture(op, n, dy), by_regions, None]


def _by_picture(op: Ops, n: ir.Node, dy: ir.Value) -> ir.Value:
    """dx[m, c] = sum over the regions of picture m of rows^T dy columns, [N, C, H, W].

    One product for all regions: the rows of a region of another picture are zero.
    """
    x = _x(n)
    height, width = (int_attribute(n, f"output_{side}", 1) for side in ("height", "width"))
    rows = _weights(op, n, 2)  # [R, P, H]
    columns = _weights(op, n, 3)  # [R, Q, W]
    wide = op.MatMul(op.Reshape(dy, op.ints(0, -1, width)), columns)  # [R, C P, W]
    wide = op.Reshape(wide, op.Concat(op.ints(0), _size(op, x, 1), op.ints(height, -1), axis=0))
    wide = op.Transpose(wide, perm=[1, 0, 2, 3])  # [C, R, P, W]
    wide = op.Reshape(wide, op.Concat(_size(op, x, 1), op.ints(-1), _size(op, x, 3), axis=0))
    if dims(x)[0] == 1:
        tall = op.Reshape(rows, op.Concat(op.ints(-1), _size(op, x, 2), axis=0))
    else:
        pictures = op.Range(_scalar(op, 0), op.Squeeze(_size(op, x, 0)), _scalar(op, 1))
        own = op.Equal(op.Unsqueeze(_x(n, 2), op.ints(1)), pictures)  # [R, N]
        own = op.Unsqueeze(op.Cast(own, to=rows.dtype), op.ints(1, 3))
        tall = op.Mul(op.Unsqueeze(rows, op.ints(2)), own)  # [R, P, N, H]
        size = op.Mul(_size(op, x, 0), _size(op, x, 2))
        tall = op.Reshape(tall, op.Concat(op.ints(-1), size, axis=0))
    dx = op.MatMul(op.Transpose(tall, perm=[1, 0]), wide)  # [C, N H, W]
    shape = op.Concat(_size(op, x, 1), op.ints(-1), _size(op, x, 2), _size(op, x, 3), axis=0)
    return op.Transpose(op.Reshape(dx, shape), perm=[1, 0, 2, 3])


def _products(op: Ops, n: ir.Node) -> Sequence[ir.Value]:
    """The operator itself, for the derivative by the regions.

    Frameworks take the regions of a detector as given (torchvision detaches them); the file does
    not say so, and where they are computed from the layer they are a part of its effect.
    """
    x = _x(n)
    rows, columns = _weights(op, n, 2), _weights(op, n, 3)
    own = op.Gather(x, _x(n, 2), axis=0)  # [R, C, H, W]
    wide = op.MatMul(own, op.Unsqueeze(op.Transpose(columns, perm=[0, 2, 1]), op.ints(1)))
    return [op.MatMul(op.Unsqueeze(rows, op.ints(1)), wide)]


_through_products = through(_products)


def _weights(op: Ops, n: ir.Node, axis: int) -> ir.Value:
    """The weights of the pixels along one axis of x in each bin, [R, bins, pixels]."""
    x, rois = _x(n), _x(n, 1)
    # Positions in float32 at least, as in GridSample.
    rois = op.Cast(rois, to=ir.DataType.FLOAT) if is_half(rois) else rois
    bins = int_attribute(n, "output_height" if axis == 2 else "output_width", 1)
    half = string_attribute(n, "coordinate_transformation_mode", "half_pixel") == "half_pixel"
    ratio = int_attribute(n, "sampling_ratio", 0)
    # The shape [R, 4] said once more, for files that leave it open.
    ends = op.Mul(op.Reshape(rois, op.ints(-1, 4)), float_attribute(n, "spatial_scale", 1.0))
    if half:
        ends = op.Sub(ends, 0.5)
    # x1, y1, x2, y2 of each region, as [R, 1, 1]
    corners = op.emit("Split", [ends], {"axis": 1, "num_outputs": 4}, outputs=4)
    low, high = (op.Unsqueeze(corners[at], op.ints(2)) for at in (3 - axis, 5 - axis))
    extent = op.Sub(high, low) if half else op.Max(op.Sub(high, low), 1.0)
    size = op.Mul(extent, 1.0 / bins)
    # Where in its bin each sample lies, [R or 1, 1, samples]
    if ratio > 0:
        inside: ir.Value | float = op.const(
            (np.arange(ratio) + 0.5)[None, None] / ratio, rois.dtype
        )
        share = op.const(np.full((1, 1, ratio, 1), 1 / ratio), rois.dtype)
    else:
        # As many samples as the region's bins have pixels. An integer, through which nothing flows.
        count = op.Max(op.Cast(op.Ceil(size), to=ir.DataType.INT64), op.const(np.array(0)))
        most = op.ReduceMax(
            op.Concat(op.Reshape(count, op.ints(-1)), op.ints(1), axis=0), keepdims=0
        )
        number = op.Range(_scalar(op, 0), most, _scalar(op, 1))
        some = op.Cast(op.Max(count, op.const(np.array(1))), to=rois.dtype)
        inside = op.Div(op.Add(op.Cast(number, to=rois.dtype), 0.5), some)
        there = op.Cast(op.Less(number, count), to=rois.dtype)
        share = op.Unsqueeze(op.Div(there, some), op.ints(3))
    at = op.Add(inside, np.arange(bins)[None, :, None])
    at = op.Add(op.Mul(at, size), low)  # [R, bins, samples]
    length = op.Squeeze(_size(op, x, axis))
    last = op.Cast(op.Sub(length, op.const(np.array(1))), to=rois.dtype)
    beyond = op.Or(op.Less(at, -1.0), op.Greater(at, op.Cast(length, to=rois.dtype)))
    at = op.Unsqueeze(op.Clip(at, 0.0, last), op.ints(3))
    pixels = op.Cast(op.Range(_scalar(op, 0), length, _scalar(op, 1)), to=rois.dtype)
    near = op.Relu(op.Sub(1.0, op.Abs(op.Sub(at, pixels))))  # [R, bins, samples, pixels]
    near = op.Where(op.Unsqueeze(beyond, op.ints(3)), 0.0, near)
    weights = op.ReduceSum(op.Mul(near, share), op.ints(2), keepdims=0)
    return op.Cast(weights, to=x.dtype) if weights.dtype != x.dtype else weights


def _scalar(op: Ops, value: int) -> ir.Value:
    return op.const(np.array(value))


def _size(op: Ops, x: ir.Value, axis: int) -> ir.Value:
    """One size, as a vector of one."""
    size = dims(x)[axis]
    return op.ints(size) if size is not None else op.Shape(x, start=axis, end=axis + 1)


TABLE = {("", "RoiAlign"): _roi_align}
