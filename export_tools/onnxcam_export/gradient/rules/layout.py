"""Operators that move, cut, join or repeat elements without changing them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxcam.errors import ExportError, UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.rules.arithmetic import _x, _y
from onnxcam_export.gradient.rules.sampling import pad_by_pixels
from onnxcam_export.gradient.shapes import (
    constant_ints,
    dims,
    int_attribute,
    ints_attribute,
    rank,
    reshape_like,
    string_attribute,
    sum_to,
    zeros_like,
)


def _reshape(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    return [reshape_like(op, dy, _x(n)), None]


def _transpose(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    size = rank(_x(n))
    perm = ints_attribute(n, "perm") or list(range(size))[::-1]
    return [op.Transpose(dy, perm=[perm.index(axis) for axis in range(size)])]


def _concat(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    """Each input's part of dy; parts that nobody wants are pruned with their Slice."""
    axis = int_attribute(n, "axis", 0) % rank(_y(n))
    grads: list[ir.Value | None] = []
    start: ir.Value = op.ints(0)
    position: int | None = 0
    for value in n.inputs:
        assert value is not None
        size = dims(value)[axis]
        if size is not None and position is not None:
            start, end = op.ints(position), op.ints(position + size)
            position += size
        else:
            end, position = op.Add(start, op.Shape(value, start=axis, end=axis + 1)), None
        grads.append(op.Slice(dy, start, end, op.ints(axis)))
        start = end
    return grads


def _split(op: Ops, n: ir.Node, *dys: ir.Value | None) -> Sequence[ir.Value | None]:
    parts = []
    for dy, output in zip(dys, n.outputs, strict=True):
        parts.append(dy if dy is not None else zeros_like(op, output))
    return [op.Concat(*parts, axis=int_attribute(n, "axis", 0)), None]


def _pad(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    """Constant padding: cut it off again (a negative pad has cut pixels off: put zeros there)."""
    mode = string_attribute(n, "mode", "constant")
    if mode != "constant":
        return [pad_by_pixels(op, n, dy), None, None, None]
    pads = constant_ints(n, 1) or []
    size = rank(_x(n))
    axes = [axis % size for axis in constant_ints(n, 3) or range(size)]
    pairs = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    inner = _unpadded(op, dy, pairs)

    def by_fill() -> ir.Value:
        fill = op.Sub(op.ReduceSum(dy, keepdims=0), op.ReduceSum(inner, keepdims=0))
        return reshape_like(op, fill, _x(n, 2))

    return [_uncut(op, inner, pairs, size), None, by_fill, None]


def _unpadded(op: Ops, dy: ir.Value, pairs: dict[int, tuple[int, int]]) -> ir.Value:
    cut = {axis: (max(b, 0), max(e, 0)) for axis, (b, e) in pairs.items() if max(b, e) > 0}
    if not cut:
        return dy
    starts = op.ints(*[begin for begin, _ in cut.values()])
    ends = op.ints(*[-end if end else np.iinfo(np.int64).max for _, end in cut.values()])
    return op.Slice(dy, starts, ends, op.ints(*cut))


def _uncut(op: Ops, dy: ir.Value, pairs: dict[int, tuple[int, int]], size: int) -> ir.Value:
    begin, end = [0] * size, [0] * size
    for axis, (b, e) in pairs.items():
        begin[axis], end[axis] = max(-b, 0), max(-e, 0)
    if not any([*begin, *end]):
        return dy
    return op.Pad(dy, op.ints(*begin, *end), op.const(0.0, dy.dtype))


def _slice(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    """Scatter dy back to where it was taken from: zeros around it, or between for a step."""
    x = _x(n)
    sizes = dims(x)
    starts, ends = constant_ints(n, 1) or [], constant_ints(n, 2) or []
    axes = constant_ints(n, 3) or list(range(len(starts)))
    steps = constant_ints(n, 4) or [1] * len(starts)
    grad = dy
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        length = sizes[axis % len(sizes)]
        if length is None:
            left_out = _left_out(start, end, step)
            if left_out is None:
                raise UnsupportedOpError(f"it cuts axis {axis}, whose size is not fixed")
            grad = _uncut(op, grad, {axis % len(sizes): left_out}, len(sizes))
            continue
        taken = range(length)[slice(start, None if step < 0 and end < -length else end, step)]
        if taken == range(length):
            continue
        grad = place(op, grad, taken, length, axis % len(sizes), len(sizes))
    return [grad, None, None, None, None]


def _left_out(start: int, end: int, step: int) -> tuple[int, int] | None:
    """Minus what a cut leaves out before and behind, where that needs no size of the axis."""
    if step != 1 or start < 0:
        return None
    if end >= np.iinfo(np.int32).max:  # "to the end", as exporters write it
        return -start, 0
    return (-start, end) if end < 0 else None


def place(op: Ops, dy: ir.Value, taken: range, length: int, axis: int, size: int) -> ir.Value:
    if taken.step == 1:
        begin, end = [0] * size, [0] * size
        begin[axis], end[axis] = taken.start, length - taken.stop
        return op.Pad(dy, op.ints(*begin, *end), op.const(0.0, dy.dtype))
    # dy with a zero behind it, gathered: position p of x gets its dy or that zero
    end = [0] * size
    end[axis] = 1
    extended = op.Pad(dy, op.ints(*[0] * size, *end), op.const(0.0, dy.dtype))
    source = np.full(length, len(taken), np.int64)
    source[list(taken)] = np.arange(len(taken))
    return op.Gather(extended, op.const(source), axis=axis)


def _depth_to_space(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    block = int_attribute(n, "blocksize", 1)
    if string_attribute(n, "mode", "DCR") == "DCR":
        return [op.SpaceToDepth(dy, blocksize=block)]
    # y[n, c, h b, w b] came from x[n, (c, b, b), h, w]
    channels, height, width = dims(_x(n))[1:]
    if channels is None or height is None or width is None:
        raise ExportError(f"DepthToSpace '{n.name}': its input has no fixed size; fix it first")
    split = op.Reshape(dy, op.ints(-1, channels // block**2, height, block, width, block))
    moved = op.Transpose(split, perm=[0, 1, 3, 5, 2, 4])
    return [op.Reshape(moved, op.ints(-1, channels, height, width))]


def _expand(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    return [sum_to(op, dy, dims(_y(n)), _x(n)), None]


TABLE = {
    ("", "Reshape"): _reshape,
    ("", "Flatten"): _reshape,
    ("", "Squeeze"): _reshape,
    ("", "Unsqueeze"): _reshape,
    ("", "Transpose"): _transpose,
    ("", "Concat"): _concat,
    ("", "Split"): _split,
    ("", "Pad"): _pad,
    ("", "Slice"): _slice,
    ("", "DepthToSpace"): _depth_to_space,
    ("", "SpaceToDepth"): lambda op, n, dy: [
        op.DepthToSpace(
            dy, blocksize=int_attribute(n, "blocksize", 1), mode=string_attribute(n, "mode", "DCR")
        )
    ],
    ("", "Trilu"): lambda op, n, dy: [
        op.Trilu(dy, *n.inputs[1:], upper=int_attribute(n, "upper", 1)), None
    ],
    ("", "CumSum"): lambda op, n, dy: [
        op.CumSum(
            dy, _x(n, 1), exclusive=int_attribute(n, "exclusive", 0),
            reverse=1 - int_attribute(n, "reverse", 0),
        ),
        None,
    ],
    ("", "Expand"): _expand,
}  # fmt: skip
