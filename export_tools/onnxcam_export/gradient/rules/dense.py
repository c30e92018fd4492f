"""Matrix products. A weight is never transposed in the graph: Gemm's flags do that for free."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.rules.arithmetic import _x, _y
from onnxcam_export.gradient.shapes import (
    dims,
    float_attribute,
    int_attribute,
    rank,
    reshape_like,
    sum_to,
)


def _gemm(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    """Y = alpha op(A) op(B) + beta C."""
    a, b = _x(n, 0), _x(n, 1)
    trans_a, trans_b = int_attribute(n, "transA", 0), int_attribute(n, "transB", 0)
    alpha, beta = float_attribute(n, "alpha", 1.0), float_attribute(n, "beta", 1.0)
    if trans_a:
        da = op.Gemm(b, dy, alpha=alpha, transA=trans_b, transB=1)
    else:
        da = op.Gemm(dy, b, alpha=alpha, transB=1 - trans_b)
    if trans_b:
        db = op.Gemm(dy, a, alpha=alpha, transA=1, transB=trans_a)
    else:
        db = op.Gemm(a, dy, alpha=alpha, transA=1 - trans_a)
    grads: list[ir.Value | None] = [da, db]
    if len(n.inputs) > 2 and n.inputs[2] is not None and n.inputs[2].shape is not None:
        grads.append(sum_to(op, op.Mul(dy, beta), dims(_y(n)), n.inputs[2]))
    return grads


def _matmul(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    """Y = A B with numpy's batch dimensions; vectors (rank 1) as numpy.matmul takes them."""
    a, b = _x(n, 0), _x(n, 1)
    if rank(b) == 2 and rank(a) >= 2:
        return [times_weight_transposed(op, dy, b, a), _weight_grad(op, a, dy, b)]
    if rank(a) == 1 or rank(b) == 1:
        return _matmul_of_vector(op, n, dy)
    out = dims(_y(n))
    da = op.MatMul(dy, swap_last(op, b))
    db = op.MatMul(swap_last(op, a), dy)
    batch = out[:-2]
    return [
        sum_to(op, da, [*batch, *dims(a)[-2:]], a),
        sum_to(op, db, [*batch, *dims(b)[-2:]], b),
    ]


def _matmul_of_vector(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    a, b = _x(n, 0), _x(n, 1)
    if rank(a) == 1 and rank(b) == 1:
        return [op.Mul(dy, b), op.Mul(dy, a)]
    if rank(b) == 1:  # [..., m, k] [k] -> [..., m]
        column = op.Unsqueeze(dy, op.ints(-1))
        db = op.Mul(column, a)
        return [op.Mul(column, b), sum_to(op, db, dims(a), b)]
    row = op.Unsqueeze(dy, op.ints(-2))  # [k] [..., k, n] -> [..., n]
    da = op.ReduceSum(op.Mul(row, b), op.ints(-1), keepdims=0)
    db = op.Mul(row, op.Unsqueeze(a, op.ints(-1)))
    return [sum_to(op, da, dims(b)[:-1], a), db]


def times_weight_transposed(op: Ops, dy: ir.Value, b: ir.Value, like: ir.Value) -> ir.Value:
    if rank(like) == 2:
        return op.Gemm(dy, b, transB=1)
    rows = op.Reshape(dy, op.const([-1, _columns(op, b)], ir.DataType.INT64))
    return reshape_like(op, op.Gemm(rows, b, transB=1), like)


def _columns(op: Ops, b: ir.Value) -> int:
    size = dims(b)[1]
    # A weight's width is always known; an activation of rank 2 with an open width is not met.
    return 0 if size is None else size


def _weight_grad(op: Ops, a: ir.Value, dy: ir.Value, b: ir.Value) -> ir.Value:
    if rank(a) == 2:
        return op.Gemm(a, dy, transA=1)
    height, width = dims(b)
    flat_a = op.Reshape(a, op.const([-1, height or 0], ir.DataType.INT64))
    flat_dy = op.Reshape(dy, op.const([-1, width or 0], ir.DataType.INT64))
    return op.Gemm(flat_a, flat_dy, transA=1)


def swap_last(op: Ops, value: ir.Value) -> ir.Value:
    axes = list(range(rank(value)))
    return op.Transpose(value, perm=[*axes[:-2], axes[-1], axes[-2]])


TABLE = {
    ("", "Gemm"): _gemm,
    ("", "MatMul"): _matmul,
}
