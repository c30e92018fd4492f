"""Circular and hyperbolic functions."""

from __future__ import annotations

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.rules.arithmetic import _unary


def _one_plus_square(op: Ops, value: ir.Value) -> ir.Value:
    return op.Add(op.Mul(value, value), 1.0)


def _one_minus_square(op: Ops, value: ir.Value) -> ir.Value:
    return op.Sub(1.0, op.Mul(value, value))


def _square_minus_one(op: Ops, value: ir.Value) -> ir.Value:
    return op.Sub(op.Mul(value, value), 1.0)


def _inverse(op: Ops, value: ir.Value) -> ir.Value:
    return op.Reciprocal(value)


def _half_exps(op: Ops, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    # onnxruntime has Sinh and Cosh in float32 only
    return op.Mul(op.Exp(x), 0.5), op.Mul(op.Exp(op.Neg(x)), 0.5)


TABLE = {
    ("", "Sin"): _unary(lambda op, x, y: op.Cos(x)),
    ("", "Cos"): _unary(lambda op, x, y: op.Neg(op.Sin(x))),
    ("", "Tan"): _unary(lambda op, x, y: _one_plus_square(op, y)),
    ("", "Asin"): _unary(lambda op, x, y: _inverse(op, op.Sqrt(_one_minus_square(op, x)))),
    ("", "Acos"): _unary(lambda op, x, y: op.Neg(_inverse(op, op.Sqrt(_one_minus_square(op, x))))),
    ("", "Atan"): _unary(lambda op, x, y: _inverse(op, _one_plus_square(op, x))),
    ("", "Sinh"): _unary(lambda op, x, y: op.Add(*_half_exps(op, x))),
    ("", "Cosh"): _unary(lambda op, x, y: op.Sub(*_half_exps(op, x))),
    ("", "Tanh"): _unary(lambda op, x, y: _one_minus_square(op, y)),
    ("", "Asinh"): _unary(lambda op, x, y: _inverse(op, op.Sqrt(_one_plus_square(op, x)))),
    ("", "Acosh"): _unary(lambda op, x, y: _inverse(op, op.Sqrt(_square_minus_one(op, x)))),
    ("", "Atanh"): _unary(lambda op, x, y: _inverse(op, _one_minus_square(op, x))),
}
