"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxcam.errors import ExportError
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.rules.arithmetic import _x, _y
from onnxcam_export.gradient.rules.convolution import Windows, transposed, windows_of
from onnxcam_export.gradient.shapes import (
    TINY,
    dims,
    expand_like,
    int_attribute,
    ints_attribute,
    rank,
    reshape_like,
    scatter_add,
    spatial,
)


def _max_pool(op: Ops, n: ir.Node, dy: ir.Value, *_: ir.Value | None) -> Sequence[ir.Value | None]:
    """Send dy to each window's first maximum, as the frameworks do.

    The indices come from a second MaxPool: asking the first for them costs it onnxruntime's
    blocked layout. Overlapping windows add up, which MaxUnpool would not do.
    """
    x = _x(n)
    attributes = {
        # storage_order is about what an index counts, not about the values
        name: attribute.value
        for name, attribute in n.attributes.items()
        if name != "storage_order"
    }
    indices = op.emit("MaxPool", [x], attributes, outputs=2)[1]
    indices.dtype = ir.DataType.INT64
    # scattered along one axis: the indices count all the elements
    pixels = op.Reshape(x, op.ints(-1))
    if x.shape is not None and None not in dims(x):
        pixels.shape = ir.Shape([int(np.prod([size or 1 for size in dims(x)]))])
    flat = scatter_add(
        op, "ScatterElements", pixels, op.Reshape(indices, op.ints(-1)),
        op.Reshape(dy, op.ints(-1)), axis=0,
    )  # fmt: skip
    return [reshape_like(op, flat, x)]


def _average_pool(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    x = _x(n)
    kernel = ints_attribute(n, "kernel_shape") or []
    w = windows_of(n, kernel)
    if {*kernel, *w.strides} == {1} and not any([*w.pads_begin, *w.pads_end]):
        return [dy]  # what is left of an adaptive pool to the size there is (VGG, AlexNet)
    if w.size == kernel and not any([*w.pads_begin, *w.pads_end]):
        return [expand_like(op, op.Mul(dy, 1.0 / float(np.prod(kernel))), x)]
    return [_spread(op, n, op.Div(dy, _counts(op, n, w)), w)]


def _spread(op: Ops, n: ir.Node, dy: ir.Value, w: Windows) -> ir.Value:
    """Each window's number to all of its pixels: the adjoint of a sum over windows."""
    x = _x(n)
    channels = dims(x)[1]
    if channels is None:
        raise ExportError(f"{n.op_type} '{n.name}': its number of channels is not known")
    ones = op.const(np.ones((channels, 1, *w.kernel)), x.dtype)
    return transposed(op, dy, ones, w, channels, x)


def _lp_slope(op: Ops, n: ir.Node) -> tuple[ir.Value, ir.Value]:
    """For y = (sum |x|^p)^(1/p): dy/dx = sign(x) |x|^(p-1) * y^(1-p), as two factors."""
    p = int_attribute(n, "p", 2)
    x = _x(n)
    if p == 2:
        return x, op.Reciprocal(op.Max(_y(n), TINY))
    of_x = op.Mul(op.Sign(x), op.Pow(op.Abs(x), float(p - 1)))
    return of_x, op.Pow(op.Max(_y(n), TINY), float(1 - p))


def _lp_pool(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    of_x, of_y = _lp_slope(op, n)
    w = windows_of(n, ints_attribute(n, "kernel_shape") or [])
    return [op.Mul(of_x, _spread(op, n, op.Mul(dy, of_y), w))]


def _global_lp_pool(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    of_x, of_y = _lp_slope(op, n)
    return [op.Mul(of_x, op.Mul(dy, of_y))]


def _counts(op: Ops, n: ir.Node, w: Windows) -> float | ir.Value:
    """By how many pixels each window's sum was divided: one number, or [1, 1, *output]."""
    include_pad = bool(int_attribute(n, "count_include_pad", 0))
    padded = any([*w.pads_begin, *w.pads_end])
    ceil_mode = bool(int_attribute(n, "ceil_mode", 0))
    if not ceil_mode and (include_pad or not padded):
        return float(np.prod(w.kernel))
    per_axis = []
    for axis, (size, output) in enumerate(zip(w.size, w.output, strict=True)):
        if size is None or output is None:
            raise ExportError(
                f"AveragePool '{n.name}' has padded windows and its input has no fixed size; "
                "fix the model's input size first"
            )
        begin = w.pads_begin[axis] if include_pad else 0
        end = w.pads_end[axis] if include_pad else 0
        taps = np.arange(output)[:, None] * w.strides[axis] - w.pads_begin[axis]
        taps = taps + np.arange(w.kernel[axis])[None, :] * w.dilations[axis]
        per_axis.append(((taps >= -begin) & (taps < size + end)).sum(axis=1))
    counts = per_axis[0]
    for axis_counts in per_axis[1:]:
        counts = counts[..., None] * axis_counts
    return op.const(counts[None, None], _x(n).dtype)


def _global_average_pool(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    x = _x(n)
    sizes = spatial(x)
    if None in sizes:
        pixels = op.ReduceProd(op.Slice(op.Shape(x), op.ints(2), op.ints(rank(x))), keepdims=0)
        share = op.Div(dy, op.Cast(pixels, to=x.dtype))
    else:
        share = op.Mul(dy, 1.0 / float(np.prod([size or 1 for size in sizes])))
    return [expand_like(op, share, x)]


def _global_max_pool(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    """Ties share the gradient, as torch.amax and tf.reduce_max do."""
    x = _x(n)
    winners = op.Cast(op.Equal(x, _y(n)), to=x.dtype)
    count = op.ReduceSum(winners, op.ints(*range(2, rank(x))), keepdims=1)
    return [op.Mul(winners, op.Div(dy, count))]


TABLE = {
    ("", "MaxPool"): _max_pool,
    ("", "AveragePool"): _average_pool,
    ("", "GlobalAveragePool"): _global_average_pool,
    ("", "GlobalMaxPool"): _global_max_pool,
    ("", "LpPool"): _lp_pool,
    ("", "GlobalLpPool"): _global_lp_pool,
}
