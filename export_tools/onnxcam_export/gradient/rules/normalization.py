"""Normalisation layers, in inference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.rules.arithmetic import _x, _y
from onnxcam_export.gradient.shapes import (
    average_pool,
    constant,
    dims,
    float_attribute,
    int_attribute,
    ints_attribute,
    is_half,
    rank,
    reshape_like,
)


def _batch_norm(
    op: Ops, n: ir.Node, dy: ir.Value, *_: ir.Value | None
) -> Sequence[ir.Value | None]:
    """Inference: y = (x - mean) scale / sqrt(var + epsilon) + bias, so a factor per channel."""
    if int_attribute(n, "training_mode", 0):
        raise UnsupportedOpError("it is in training mode; export the model in eval mode")
    epsilon = float_attribute(n, "epsilon", 1e-5)
    scale, variance = constant(n.inputs[1]), constant(n.inputs[4])
    shape = [-1] + [1] * (rank(_x(n)) - 2)
    if scale is not None and variance is not None:
        factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        return [op.Mul(dy, op.const(factor.reshape(shape), _x(n).dtype))]
    in_graph = op.Div(_x(n, 1), op.Sqrt(op.Add(_x(n, 4), epsilon)))
    return [op.Mul(dy, op.Reshape(in_graph, op.ints(*shape)))]


def standardised_grad(
    op: Ops, x: ir.Value, dz: ir.Value, axes: list[int], epsilon: float
) -> ir.Value:
    """Through z = (x - mean(x)) / sqrt(var(x) + epsilon) over `axes`.

    dx = (dz - mean(dz) - z mean(dz z)) / sqrt(var + epsilon), in float32 at least: the squares
    of float16 overflow, and the forward computes in float32 too.
    """
    if is_half(x):
        x, dz = op.Cast(x, to=ir.DataType.FLOAT), op.Cast(dz, to=ir.DataType.FLOAT)
    over = op.ints(*axes)
    centred = op.Sub(x, op.ReduceMean(x, over, keepdims=1))
    variance = op.ReduceMean(op.Mul(centred, centred), over, keepdims=1)
    deviation = op.Sqrt(op.Add(variance, epsilon))
    z = op.Div(centred, deviation)
    along = op.Mul(z, op.ReduceMean(op.Mul(dz, z), over, keepdims=1))
    return op.Div(op.Sub(op.Sub(dz, op.ReduceMean(dz, over, keepdims=1)), along), deviation)


def _standardised(op: Ops, n: ir.Node, dz: ir.Value, axes: list[int]) -> ir.Value:
    x = _x(n)
    grad = standardised_grad(op, x, dz, axes, float_attribute(n, "epsilon", 1e-5))
    return grad if grad.dtype == x.dtype else op.Cast(grad, to=x.dtype)


def _layer_norm(
    op: Ops, n: ir.Node, dy: ir.Value | None, *statistics: ir.Value | None
) -> Sequence[ir.Value | None]:
    if dy is None or any(grad is not None for grad in statistics):
        raise UnsupportedOpError("its outputs Mean and InvStdDev have no derivative here")
    axis = int_attribute(n, "axis", -1) % rank(_x(n))
    dz = op.Mul(dy, _x(n, 1))
    return [_standardised(op, n, dz, list(range(axis, rank(_x(n)))))]


def _instance_norm(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    size = rank(_x(n))
    scale = op.Reshape(_x(n, 1), op.ints(-1, *[1] * (size - 2)))
    return [_standardised(op, n, op.Mul(dy, scale), list(range(2, size)))]


def _group_norm(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    """Standardised over [C / groups, *spatial]; opset 18 has a scale a group, 21 one a channel."""
    x, scale = _x(n), _x(n, 1)
    groups, size = int_attribute(n, "num_groups", 1), rank(x)
    grouped = op.ints(0, groups, -1)
    if dims(scale)[0] == groups:
        dz = op.Mul(op.Reshape(dy, grouped), op.Reshape(scale, op.ints(-1, 1)))
    else:
        dz = op.Mul(dy, op.Reshape(scale, op.ints(-1, *[1] * (size - 2))))
        dz = op.Reshape(dz, grouped)
    epsilon = float_attribute(n, "epsilon", 1e-5)
    grad = standardised_grad(op, op.Reshape(x, grouped), dz, [2], epsilon)
    grad = grad if grad.dtype == x.dtype else op.Cast(grad, to=x.dtype)
    return [reshape_like(op, grad, x)]


def _mean_variance_norm(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    # The standard adds 1e-9 to the deviation; 1e-18 in the variance is the same to first order.
    x = _x(n)
    axes = ints_attribute(n, "axes") or [0, 2, 3]
    grad = standardised_grad(op, x, dy, axes, 1e-18)
    return [grad if grad.dtype == x.dtype else op.Cast(grad, to=x.dtype)]


def _lp_norm(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    """y = x / |x|_p: dx = (dy - d|x|_p sum(dy y)) / |x|_p, with d|x|_2 = y, d|x|_1 = sign(x)."""
    x, axis = _x(n), op.ints(int_attribute(n, "axis", -1))
    along = op.ReduceSum(op.Mul(dy, _y(n)), axis, keepdims=1)
    if int_attribute(n, "p", 2) == 1:
        norm, slope = op.ReduceL1(x, axis, keepdims=1), op.Sign(x)
    else:
        norm, slope = op.ReduceL2(x, axis, keepdims=1), _y(n)
    return [op.Div(op.Sub(dy, op.Mul(slope, along)), norm)]


def _local_response(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    """y_c = x_c D_c^-beta, D_c = bias + alpha/size * (sum of x^2 over the channels around c).

    dx_c = dy_c D_c^-beta - 2 alpha beta / size x_c * (sum of dy x D^(-beta-1) over those whose
    window holds c).
    """
    x = _x(n)
    size, bias = int_attribute(n, "size", 1), float_attribute(n, "bias", 1.0)
    alpha, beta = float_attribute(n, "alpha", 1e-4), float_attribute(n, "beta", 0.75)
    before, after = (size - 1) // 2, size // 2
    squares = _over_channels(op, x, op.Mul(x, x), size, before, after)
    base = op.Add(op.Mul(squares, alpha / size), bias)
    scaled = op.Mul(dy, op.Pow(base, -beta))
    inner = op.Div(op.Mul(scaled, x), base)
    around = _over_channels(op, x, inner, size, after, before)
    return [op.Sub(scaled, op.Mul(op.Mul(x, around), 2 * alpha * beta / size))]


def _over_channels(
    op: Ops, x: ir.Value, value: ir.Value, size: int, before: int, after: int
) -> ir.Value:
    """Sums over windows of channels, as an average pooling of [N, 1, C, pixels]."""
    channels = dims(x)[1]
    if channels is None:
        raise UnsupportedOpError("its number of channels is not known")
    pooled = average_pool(
        op, op.Reshape(value, op.ints(0, 1, channels, -1)),
        kernel_shape=[size, 1], pads=[before, 0, after, 0], count_include_pad=1,
    )  # fmt: skip
    return op.Mul(reshape_like(op, pooled, x), float(size))


TABLE = {
    ("", "BatchNormalization"): _batch_norm,
    ("", "LayerNormalization"): _layer_norm,
    ("", "InstanceNormalization"): _instance_norm,
    ("", "GroupNormalization"): _group_norm,
    ("", "MeanVarianceNormalization"): _mean_variance_norm,
    ("", "LpNormalization"): _lp_norm,
    ("", "LRN"): _local_response,
}
