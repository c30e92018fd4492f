"""onnxruntime's fused operators, as its documentation of contributed operators defines them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxcam.errors import ModelError
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import (
    float_attribute,
    int_attribute,
    rank,
    string_attribute,
)

MICROSOFT = "com.microsoft"


def input_at(n: ir.Node, position: int) -> ir.Value | None:
    """An input, None where it is left out."""
    return n.inputs[position] if position < len(n.inputs) else None


def attributes_of(n: ir.Node, *without: str) -> dict[str, Any]:
    """The node's attributes but for some."""
    return {name: a.value for name, a in n.attributes.items() if name not in without}


def _plus(op: Ops, value: ir.Value, other: ir.Value | None) -> ir.Value:
    return value if other is None else op.Add(value, other)


def _activated(op: Ops, n: ir.Node, value: ir.Value, parameters: Sequence[float]) -> ir.Value:
    """The activation that a convolution or a product was fused with."""
    name = string_attribute(n, "activation", "")
    if name in ("", "Relu", "Sigmoid", "Tanh", "HardSwish"):
        return op.emit(name, [value])[0] if name else value
    if name == "LeakyRelu":
        return op.LeakyRelu(value, alpha=parameters[0])
    if name == "HardSigmoid":
        return op.HardSigmoid(value, alpha=parameters[0], beta=parameters[1])
    if name == "Clip":
        low, high = (np.array(bound) for bound in parameters[:2])
        return op.Clip(value, op.const(low, value.dtype), op.const(high, value.dtype))
    raise ModelError(f"{n.op_type} '{n.name}': unknown activation '{name}'")


def _fused_conv(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    attributes = attributes_of(n, "activation", "activation_params")
    x, weight, bias, summand = (input_at(n, i) for i in range(4))
    inputs = [x, weight] if bias is None else [x, weight, bias]
    value = _plus(op, op.emit("Conv", inputs, attributes)[0], summand)
    value.dtype = _dtype(x)
    parameters = n.attributes.get("activation_params")
    return [_activated(op, n, value, [] if parameters is None else list(parameters.as_floats()))]


def _fused_gemm(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    own = ("activation", "activation_alpha", "activation_beta", "activation_gamma")
    value = op.emit("Gemm", n.inputs, attributes_of(n, *own))[0]
    alpha, beta = float_attribute(n, own[1], 0.01), float_attribute(n, own[2], 0.5)
    return [_activated(op, n, value, [alpha, beta])]


def _fused_matmul(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    if int_attribute(n, "transBatchA", 0) or int_attribute(n, "transBatchB", 0):
        raise ModelError(
            f"{n.op_type} '{n.name}': transposed batch axes are not supported; export from the "
            "file before onnxruntime optimised it"
        )
    a, b = (
        _swapped(op, value) if int_attribute(n, name, 0) else value
        for value, name in zip(n.inputs, ("transA", "transB"), strict=False)
    )
    value = op.MatMul(a, b)
    alpha = float_attribute(n, "alpha", 1.0)
    return [value if alpha == 1.0 else op.Mul(value, alpha)]


def _swapped(op: Ops, value: ir.Value | None) -> ir.Value:
    assert value is not None
    axes = list(range(rank(value)))
    return op.Transpose(value, perm=[*axes[:-2], axes[-1], axes[-2]])


def _gelu(op: Ops, x: ir.Value) -> ir.Value:
    # As exporters write it, which is what onnxruntime recognises.
    phi = op.Add(op.Erf(op.Div(x, math.sqrt(2.0))), 1.0)
    return op.Mul(op.Mul(x, phi), 0.5)


def _fast_gelu(op: Ops, x: ir.Value) -> ir.Value:
    cubic = op.Add(x, op.Mul(op.Pow(x, 3.0), 0.044715))
    t = op.Tanh(op.Mul(cubic, math.sqrt(2.0 / math.pi)))
    return op.Mul(op.Mul(x, 0.5), op.Add(t, 1.0))


def _x(n: ir.Node) -> ir.Value:
    value = n.inputs[0]
    assert value is not None
    return value


def _dtype(value: ir.Value | None) -> ir.DataType:
    return ir.DataType.FLOAT if value is None or value.dtype is None else value.dtype


def _quick_gelu(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    alpha = float_attribute(n, "alpha", 1.702)
    return [op.Mul(_x(n), op.Sigmoid(op.Mul(_x(n), alpha)))]


def _layer_norm(op: Ops, n: ir.Node, x: ir.Value, first: int) -> ir.Value:
    """Over the last axis, with the scale at input `first` and the bias behind it."""
    scale, bias = input_at(n, first), input_at(n, first + 1)
    inputs = [x, scale] if bias is None else [x, scale, bias]
    epsilon = float_attribute(n, "epsilon", 1e-5)
    return op.emit("LayerNormalization", inputs, {"axis": -1, "epsilon": epsilon})[0]


def _simplified(op: Ops, n: ir.Node, x: ir.Value, scale: ir.Value | None) -> ir.Value:
    """x / sqrt(mean(x^2) + epsilon) * scale (arXiv 1910.07467)."""
    axes = list(range(int_attribute(n, "axis", -1) % rank(x), rank(x)))
    square = op.ReduceMean(op.Pow(x, 2.0), op.ints(*axes), keepdims=1)
    root = op.Sqrt(op.Add(square, float_attribute(n, "epsilon", 1e-5)))
    value = op.Div(x, root)
    return value if scale is None else op.Mul(value, scale)


def _skip_layer_norm(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    # input, skip, gamma, beta, bias -> output, mean, deviation (of training), the sum
    total = _plus(op, op.Add(n.inputs[0], n.inputs[1]), input_at(n, 4))
    return [_layer_norm(op, n, total, 2), None, None, total]


def _skip_simplified(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    total = _plus(op, op.Add(n.inputs[0], n.inputs[1]), input_at(n, 3))
    total.shape = _x(n).shape
    return [_simplified(op, n, total, n.inputs[2]), None, None, total]


def _group_norm(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    """Opset 18 to 20 (deprecated, refused by checkers): a scale a group; standardised, then scaled.

    InstanceNormalization over each group, as exporters wrote it before there was an operator.
    """
    x, groups = _x(n), int_attribute(n, "num_groups", 1)
    ones, zeros = (op.const(np.full(groups, fill), _dtype(x)) for fill in (1.0, 0.0))
    grouped = op.Reshape(x, op.ints(0, groups, -1))
    epsilon = float_attribute(n, "epsilon", 1e-5)
    z = op.InstanceNormalization(grouped, ones, zeros, epsilon=epsilon)
    scale, bias = (op.Unsqueeze(input_at(n, i), op.ints(1)) for i in (1, 2))
    value = op.Add(op.Mul(z, scale), bias)
    return [op.Reshape(value, op.Shape(x))]


TABLE = {
    (MICROSOFT, "FusedConv"): _fused_conv,
    (MICROSOFT, "FusedGemm"): _fused_gemm,
    (MICROSOFT, "FusedMatMul"): _fused_matmul,
    (MICROSOFT, "TransposeMatMul"): _fused_matmul,
    (MICROSOFT, "Gelu"): lambda op, n: [_gelu(op, _x(n))],
    (MICROSOFT, "BiasGelu"): lambda op, n: [_gelu(op, op.Add(*n.inputs))],
    (MICROSOFT, "FastGelu"): lambda op, n: [_fast_gelu(op, _plus(op, _x(n), input_at(n, 1)))],
    (MICROSOFT, "QuickGelu"): _quick_gelu,
    (MICROSOFT, "SkipLayerNormalization"): _skip_layer_norm,
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): _skip_simplified,
    ("", "SimplifiedLayerNormalization"): lambda op, n: [_simplified(op, n, _x(n), n.inputs[1])],
}

# The standard's own, where its first form is deprecated: of opsets 18 to 20 only.
GROUP_NORMALIZATION_OPSET = 21
FIRST_GROUP_NORMALIZATION = {("", "GroupNormalization"): _group_norm}
