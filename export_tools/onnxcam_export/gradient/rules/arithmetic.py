"""Arithmetic, elementwise functions and their broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import FLOATS, Grad, Ops
from onnxcam_export.gradient.shapes import constant, reshape_like, zeros_like


def _x(node: ir.Node, position: int = 0) -> ir.Value:
    value = node.inputs[position]
    assert value is not None
    return value


def _y(node: ir.Node) -> ir.Value:
    return node.outputs[0]


def _div(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    dx0 = op.Div(dy, _x(n, 1))
    return [dx0, op.Neg(op.Mul(dx0, _y(n)))]


def _pow(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    base, exponent = _x(n, 0), _x(n, 1)
    dtype = base.dtype
    e = exponent if exponent.dtype == dtype or dtype is None else op.Cast(exponent, to=dtype)
    d_base = op.Mul(dy, op.Mul(e, op.Pow(base, op.Sub(e, 1.0))))
    # x^e * log(x) is 0 at x = 0 in the limit; log(0) would make it NaN there.
    log = op.Log(op.Where(op.Greater(base, 0.0), base, 1.0))
    return [d_base, op.Mul(dy, op.Mul(_y(n), log))]


def _extremum(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    """Max and Min of several tensors; a tie goes to the first, as each element has one winner."""
    if len(n.inputs) == 1:
        return [dy]
    grads: list[ir.Value | None] = []
    taken: ir.Value | None = None
    for value in n.inputs:
        wins = op.Equal(value, _y(n))
        alone = wins if taken is None else op.And(wins, op.Not(taken))
        taken = wins if taken is None else op.Or(taken, wins)
        grads.append(op.Where(alone, dy, 0.0))
    return grads


def _clip(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    """1 strictly between the bounds, as ReLU6 has it (torch.clamp counts the bounds as inside).

    Read off y, so that onnxruntime can fuse the Clip into its Conv. What is cut off belongs to
    its bound; where the bounds cross, y is the upper one.

    Comparing twice, And and Where take 105 us for 576x14x14 floats (onnxruntime 1.31, one thread;
    a product of two such tensors 41). No faster: Where(Equal(Clip(y), y)) 102, a factor
    Clip(2^100 y (6 - y), 0, 1) 107, one comparison of y (6 - y) or of min(y, 6 - y) 122 to 124.
    In onnxruntime 1.32 Where alone takes 480: see rewrites/mask_product.py.
    """
    given = [position < len(n.inputs) and n.inputs[position] is not None for position in (1, 2)]
    above = op.Greater(_y(n), _x(n, 1)) if given[0] else None
    below = op.Less(_y(n), _x(n, 2)) if given[1] else None
    if above is None and below is None:
        return [dy, None, None]
    inside = [side for side in (above, below) if side is not None]
    within = inside[0] if len(inside) == 1 else op.And(*inside)

    def by_bound(is_cut: ir.Value, position: int) -> ir.Value:
        total = op.ReduceSum(op.Where(is_cut, dy, 0.0), keepdims=0)
        return reshape_like(op, total, _x(n, position))

    def by_lower() -> ir.Value:
        cut = op.Not(above)
        return by_bound(cut if below is None else op.And(cut, below), 1)

    return [op.Where(within, dy, 0.0), by_lower, lambda: by_bound(op.Not(below), 2)]


def _cast(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    if _y(n).dtype not in FLOATS:
        raise UnsupportedOpError("rounding to integers has no derivative")
    if _x(n).dtype not in FLOATS:
        return [dy]  # a quantised integer: its gradient is a float already
    return [op.Cast(dy, to=_x(n).dtype)]


def _dropout(op: Ops, n: ir.Node, dy: ir.Value, *_: ir.Value | None) -> Sequence[ir.Value | None]:
    """Inference: the identity."""
    training = constant(n.inputs[2]) if len(n.inputs) > 2 else None
    if training is not None and training.any():
        raise UnsupportedOpError("it drops at random (training_mode); export in eval mode")
    return [dy, None, None]


def _mod(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    # y = x0 - x1 q, with q = x0/x1 rounded towards minus infinity (fmod = 0) or to zero (fmod = 1)
    return [dy, lambda: op.Mul(dy, op.Div(op.Sub(_y(n), _x(n, 0)), _x(n, 1)))]


def _unary(derivative: Callable[[Ops, ir.Value, ir.Value], Any]) -> Callable[..., Any]:
    """dx = dy * f'(x), with f' given as a function of (op, x, y)."""
    return lambda op, n, dy: [op.Mul(dy, derivative(op, _x(n), _y(n)))]


TABLE = {
    ("", "Add"): lambda op, n, dy: [dy, dy],
    ("", "Sub"): lambda op, n, dy: [dy, op.Neg(dy)],
    ("", "Mul"): lambda op, n, dy: [op.Mul(dy, _x(n, 1)), op.Mul(dy, _x(n, 0))],
    ("", "Div"): _div,
    ("", "Pow"): _pow,
    ("", "Mod"): _mod,
    ("", "Sum"): lambda op, n, dy: [dy] * len(n.inputs),
    ("", "Mean"): lambda op, n, dy: [op.Mul(dy, 1.0 / len(n.inputs))] * len(n.inputs),
    ("", "Max"): _extremum,
    ("", "Min"): _extremum,
    ("", "Where"): lambda op, n, dy: [
        None, op.Where(_x(n, 0), dy, 0.0), op.Where(_x(n, 0), 0.0, dy)
    ],
    ("", "Clip"): _clip,
    ("", "Cast"): _cast,
    ("", "CastLike"): lambda op, n, dy: [
        *_cast(op, n, dy), lambda: zeros_like(op, _x(n, 1))
    ],
    ("", "Identity"): lambda op, n, dy: [dy],
    ("", "Dropout"): _dropout,
    ("", "Neg"): lambda op, n, dy: [op.Neg(dy)],
    ("", "Abs"): _unary(lambda op, x, y: op.Sign(x)),
    ("", "Exp"): _unary(lambda op, x, y: y),
    ("", "Log"): lambda op, n, dy: [op.Div(dy, _x(n))],
    ("", "Sqrt"): lambda op, n, dy: [op.Div(dy, op.Mul(_y(n), 2.0))],
    ("", "Reciprocal"): lambda op, n, dy: [op.Neg(op.Mul(dy, op.Mul(_y(n), _y(n))))],
    # d erf(x)/dx = 2/sqrt(pi) exp(-x^2)
    ("", "Erf"): _unary(lambda op, x, y: op.Mul(op.Exp(op.Neg(op.Mul(x, x))), 1.1283791670955126)),
}  # fmt: skip

BROADCASTING = {
    ("", name)
    for name in ("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Sum", "Mean", "Max", "Min", "Where")
}
