"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.rules.arithmetic import _x, _y
from onnxcam_export.gradient.shapes import TINY, axes_of, dims, expand_like, int_attribute


def _kept(op: Ops, n: ir.Node, value: ir.Value) -> ir.Value:
    """`value` of the output's shape with the reduced axes kept as ones."""
    if int_attribute(n, "keepdims", 1):
        return value
    axes = axes_of(n, _x(n))
    return op.Unsqueeze(value, op.ints(*axes)) if axes else value


def _sum(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    return [expand_like(op, _kept(op, n, dy), _x(n)), None]


def _mean(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    x = _x(n)
    axes = axes_of(n, x)
    count = 1
    open_axes = []
    for axis in axes:
        size = dims(x)[axis]
        if size is None:
            open_axes.append(axis)
        else:
            count *= size
    share = op.Mul(_kept(op, n, dy), 1.0 / count)
    if open_axes:
        pixels = op.ReduceProd(op.Gather(op.Shape(x), op.ints(*open_axes)), keepdims=0)
        share = op.Div(share, op.Cast(pixels, to=x.dtype))
    return [expand_like(op, share, x), None]


def _extremum(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    """Ties share the gradient, as torch.amax and tf.reduce_max do."""
    x = _x(n)
    winners = op.Cast(op.Equal(x, _kept(op, n, _y(n))), to=x.dtype)
    count = op.ReduceSum(winners, op.ints(*axes_of(n, x)), keepdims=1)
    return [op.Mul(winners, op.Div(_kept(op, n, dy), count)), None]


def _scaled(slope: Callable[[Ops, ir.Value, ir.Value], ir.Value]) -> Callable[..., Any]:
    """dx = dy * f'(x, y), y and dy broadcast along the reduced axes."""

    def rule(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
        x = _x(n)
        return [
            op.Mul(expand_like(op, _kept(op, n, dy), x), slope(op, x, _kept(op, n, _y(n)))),
            None,
        ]

    return rule


TABLE = {
    ("", "ReduceSum"): _sum,
    ("", "ReduceMean"): _mean,
    ("", "ReduceMax"): _extremum,
    ("", "ReduceMin"): _extremum,
    ("", "ReduceProd"): _scaled(lambda op, x, y: op.Div(y, x)),
    ("", "ReduceL1"): _scaled(lambda op, x, y: op.Sign(x)),
    ("", "ReduceL2"): _scaled(lambda op, x, y: op.Div(x, op.Max(y, TINY))),  # 0 at 0
    ("", "ReduceSumSquare"): _scaled(lambda op, x, y: op.Mul(x, 2.0)),
    ("", "ReduceLogSum"): _scaled(lambda op, x, y: op.Exp(op.Neg(y))),
    ("", "ReduceLogSumExp"): _scaled(lambda op, x, y: op.Exp(op.Sub(x, y))),
}
