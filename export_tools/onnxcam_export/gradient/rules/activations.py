"""Activation functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.rules.arithmetic import _unary, _x, _y
from onnxcam_export.gradient.shapes import float_attribute, int_attribute, string_attribute


def _leaky_relu(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    slope = float_attribute(n, "alpha", 0.01)
    side = _y(n) if slope > 0 else _x(n)  # y leaves the operator fusable, see Relu
    positive = op.Greater(side, 0.0)
    if slope <= 1:
        # Where is slow, see rewrites/mask_product.py
        return [op.Mul(dy, op.Max(op.Cast(positive, to=_x(n).dtype), slope))]
    return [op.Where(positive, dy, op.Mul(dy, slope))]


def _prelu(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    positive = op.Greater(_x(n), 0.0)
    d_slope = op.Where(positive, 0.0, op.Mul(dy, _x(n)))
    return [op.Where(positive, dy, op.Mul(dy, _x(n, 1))), d_slope]


def _elu(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    # for x <= 0: y = alpha (e^x - 1), so y' = y + alpha
    alpha = float_attribute(n, "alpha", 1.0)
    return [op.Where(op.Greater(_x(n), 0.0), dy, op.Mul(dy, op.Add(_y(n), alpha)))]


def _celu(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    # for x <= 0: y = alpha (e^(x/alpha) - 1), so y' = y/alpha + 1
    alpha = float_attribute(n, "alpha", 1.0)
    slope = op.Add(op.Mul(_y(n), 1.0 / alpha), 1.0)
    return [op.Where(op.Greater(_x(n), 0.0), dy, op.Mul(dy, slope))]


def _square(op: Ops, value: ir.Value) -> ir.Value:
    return op.Mul(value, value)


def _selu(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    alpha = float_attribute(n, "alpha", 1.67326319217681884765625)
    gamma = float_attribute(n, "gamma", 1.05070102214813232421875)
    slope = op.Where(op.Greater(_x(n), 0.0), gamma, op.Add(_y(n), alpha * gamma))
    return [op.Mul(dy, slope)]


def _hard_sigmoid(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    # y = max(0, min(1, alpha x + beta)): a slope strictly between the bounds, as in torch
    alpha = float_attribute(n, "alpha", 0.2)
    inside = op.And(op.Greater(_y(n), 0.0), op.Less(_y(n), 1.0))
    return [op.Where(inside, op.Mul(dy, alpha), 0.0)]


def _hard_swish(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    # y = x h, h = max(0, min(1, x/6 + 1/2)): y' = h + x/6 from -3 to 3, h elsewhere (0 and 1)
    x = _x(n)
    within = op.And(op.GreaterOrEqual(x, -3.0), op.LessOrEqual(x, 3.0))
    # Where is slow, see rewrites/mask_product.py
    rising = op.Mul(op.Mul(x, 1.0 / 6.0), op.Cast(within, to=x.dtype))
    return [op.Mul(dy, op.Add(op.HardSigmoid(x, alpha=1.0 / 6.0, beta=0.5), rising))]


def _gelu(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    """Gaussian error linear units, arXiv 1606.08415: x Phi(x), or its tanh approximation."""
    x = _x(n)
    if string_attribute(n, "approximate", "none") == "tanh":
        # y = x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3)
        c = math.sqrt(2.0 / math.pi)
        x2 = op.Mul(x, x)
        t = op.Tanh(op.Mul(op.Mul(x, c), op.Add(op.Mul(x2, 0.044715), 1.0)))
        du = op.Add(op.Mul(x2, c * 3 * 0.044715), c)
        left = op.Mul(op.Add(t, 1.0), 0.5)
        right = op.Mul(op.Mul(op.Mul(x, 0.5), op.Sub(1.0, op.Mul(t, t))), du)
        return [op.Mul(dy, op.Add(left, right))]
    # y' = Phi(x) + x phi(x)
    cdf = op.Mul(op.Add(op.Erf(op.Mul(x, math.sqrt(0.5))), 1.0), 0.5)
    pdf = op.Mul(op.Exp(op.Mul(op.Mul(x, x), -0.5)), 1.0 / math.sqrt(2.0 * math.pi))
    return [op.Mul(dy, op.Add(cdf, op.Mul(x, pdf)))]


def _mish(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    # y = x tanh(softplus(x)), y' = t + x (1 - t^2) sigmoid(x)
    x = _x(n)
    t = op.Tanh(op.Softplus(x))
    slope = op.Add(t, op.Mul(op.Mul(x, op.Sub(1.0, op.Mul(t, t))), op.Sigmoid(x)))
    return [op.Mul(dy, slope)]


def _swish(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    # y = x s, s = sigmoid(alpha x), y' = s + alpha y (1 - s)
    alpha = float_attribute(n, "alpha", 1.0)
    s = op.Sigmoid(op.Mul(_x(n), alpha))
    return [op.Mul(dy, op.Add(s, op.Mul(op.Mul(_y(n), alpha), op.Sub(1.0, s))))]


def _softmax(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    # dx = y (dy - sum(y dy)) over the axis
    axis = int_attribute(n, "axis", -1)
    weighted = op.Mul(dy, _y(n))
    total = op.ReduceSum(weighted, op.ints(axis), keepdims=1)
    return [op.Sub(weighted, op.Mul(_y(n), total))]


def _log_softmax(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    # dx = dy - softmax(x) sum(dy) over the axis
    axis = int_attribute(n, "axis", -1)
    total = op.ReduceSum(dy, op.ints(axis), keepdims=1)
    return [op.Sub(dy, op.Mul(op.Exp(_y(n)), total))]


TABLE = {
    # y > 0 where x > 0; asking for x would keep onnxruntime from fusing the Relu into its Conv.
    # What such a mask costs, and how it is written in the end: rewrites/mask_product.py.
    ("", "Relu"): lambda op, n, dy: [op.Where(op.Greater(_y(n), 0.0), dy, 0.0)],
    ("", "LeakyRelu"): _leaky_relu,
    ("", "PRelu"): _prelu,
    ("", "Elu"): _elu,
    ("", "Selu"): _selu,
    ("", "Sigmoid"): _unary(lambda op, x, y: op.Mul(y, op.Sub(1.0, y))),
    ("", "Softplus"): _unary(lambda op, x, y: op.Sigmoid(x)),
    ("", "Celu"): _celu,
    ("", "Softsign"): lambda op, n, dy: [  # y = x / (1 + |x|)
        op.Div(dy, _square(op, op.Add(op.Abs(_x(n)), 1.0)))
    ],
    ("", "ThresholdedRelu"): lambda op, n, dy: [
        op.Where(op.Greater(_x(n), float_attribute(n, "alpha", 1.0)), dy, 0.0)
    ],
    ("", "Shrink"): lambda op, n, dy: [
        op.Where(op.Greater(op.Abs(_x(n)), float_attribute(n, "lambd", 0.5)), dy, 0.0)
    ],
    ("", "HardSigmoid"): _hard_sigmoid,
    ("", "HardSwish"): _hard_swish,
    ("", "Gelu"): _gelu,
    ("", "Mish"): _mish,
    ("", "Swish"): _swish,
    ("", "Softmax"): _softmax,
    ("", "LogSoftmax"): _log_softmax,
}  # fmt: skip

BROADCASTING = {("", "PRelu")}
