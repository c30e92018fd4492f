"""Normalisation layers, in inference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
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
    sum_to,
)


def _batch_norm(op: Ops, n: ir.Node, dy: ir.Value, *_: ir.Value | None) -> Sequence[Grad]:
    """Inference: y = (x - mean) scale / sqrt(var + epsilon) + bias, so a factor per channel."""
    if int_attribute(n, "training_mode", 0):
        raise UnsupportedOpError("it is in training mode; export the model in eval mode")
    x, epsilon = _x(n), float_attribute(n, "epsilon", 1e-5)
    scale, variance = constant(n.inputs[1]), constant(n.inputs[4])
    over = op.ints(0, *range(2, rank(x)))
    shape = op.ints(-1, *[1] * (rank(x) - 2))
    if scale is not None and variance is not None:
        array = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        factor = op.const(array.reshape([-1] + [1] * (rank(x) - 2)), x.dtype)
    else:
        in_graph = op.Div(_x(n, 1), op.Sqrt(op.Add(_x(n, 4), epsilon)))
        factor = op.Reshape(in_graph, shape)

    def per_channel(value: ir.Value) -> ir.Value:
        return op.ReduceSum(value, over, keepdims=0)

    def by_scale() -> ir.Value:
        centred = op.Sub(x, op.Reshape(_x(n, 3), shape))
        return op.Div(per_channel(op.Mul(dy, centred)), op.Sqrt(op.Add(_x(n, 4), epsilon)))

    def by_variance() -> ir.Value:  # d (var + epsilon)^(-1/2) = -1/2 (..)^(-1/2) / (..)
        inverse = op.Div(-0.5, op.Add(_x(n, 4), epsilon))
        return op.Mul(op.Mul(by_scale(), _x(n, 1)), inverse)

    return [
        lambda: op.Mul(dy, factor),
        by_scale,
        lambda: per_channel(dy),
        lambda: op.Neg(per_channel(op.Mul(dy, factor))),
        by_variance,
    ]


def _standardise(
    op: Ops, x: ir.Value, axes: list[int], epsilon: float
) -> tuple[ir.Value, ir.Value]:
    """z = (x - mean(x)) / sqrt(var(x) + epsilon) over `axes`, and that root.

    In float32 at least: the squares of float16 overflow, and the forward computes so too.
    """
    x = op.Cast(x, to=ir.DataType.FLOAT) if is_half(x) else x
    over = op.ints(*axes)
    centred = op.Sub(x, op.ReduceMean(x, over, keepdims=1))
    variance = op.ReduceMean(op.Mul(centred, centred), over, keepdims=1)
    deviation = op.Sqrt(op.Add(variance, epsilon))
    return op.Div(centred, deviation), deviation


def standardised_grad(
    op: Ops, x: ir.Value, dz: ir.Value, axes: list[int], epsilon: float
) -> ir.Value:
    """Through z = (x - mean(x)) / sqrt(var(x) + epsilon) over `axes`.

    dx = (dz - mean(dz) - z mean(dz z)) / sqrt(var + epsilon), in float32 at least.
    """
    over = op.ints(*axes)
    z, deviation = _standardise(op, x, axes, epsilon)
    dz = op.Cast(dz, to=z.dtype) if is_half(x) else dz
    along = op.Mul(z, op.ReduceMean(op.Mul(dz, z), over, keepdims=1))
    return op.Div(op.Sub(op.Sub(dz, op.ReduceMean(dz, over, keepdims=1)), along), deviation)


def _standardised(op: Ops, n: ir.Node, dz: ir.Value, axes: list[int]) -> ir.Value:
    x = _x(n)
    grad = standardised_grad(op, x, dz, axes, float_attribute(n, "epsilon", 1e-5))
    return grad if grad.dtype == x.dtype else op.Cast(grad, to=x.dtype)


def _times_z(op: Ops, n: ir.Node, dy: ir.Value, axes: list[int]) -> ir.Value:
    """dy z, from which the derivative by the scale is summed up."""
    z, _ = _standardise(op, _x(n), axes, float_attribute(n, "epsilon", 1e-5))
    return op.Mul(dy, op.Cast(z, to=dy.dtype) if is_half(dy) else z)


def _layer_norm(
    op: Ops, n: ir.Node, dy: ir.Value | None, *statistics: ir.Value | None
) -> Sequence[Grad]:
    """Scale and bias are broadcast to x, as numpy does."""
    if dy is None or any(grad is not None for grad in statistics):
        raise UnsupportedOpError("its outputs Mean and InvStdDev have no derivative here")
    x = _x(n)
    axes = list(range(int_attribute(n, "axis", -1) % rank(x), rank(x)))
    return [
        lambda: _standardised(op, n, op.Mul(dy, _x(n, 1)), axes),
        lambda: sum_to(op, _times_z(op, n, dy, axes), dims(x), _x(n, 1)),
        lambda: sum_to(op, dy, dims(x), _x(n, 2)),
    ]


def _instance_norm(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    size = rank(_x(n))
    axes = list(range(2, size))
    scale = op.Reshape(_x(n, 1), op.ints(-1, *[1] * (size - 2)))
    return [
        lambda: _standardised(op, n, op.Mul(dy, scale), axes),
        lambda: op.ReduceSum(_times_z(op, n, dy, axes), op.ints(0, *axes), keepdims=0),
        lambda: op.ReduceSum(dy, op.ints(0, *axes), keepdims=0),
    ]


def _group_norm(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    """Standardised over [C / groups, *spatial], a scale and a bias a channel.

    The first form (opsets 18 to 20: one a group) is written as InstanceNormalization before.
    """
    x, scale = _x(n), _x(n, 1)
    size = rank(x)
    grouped = op.ints(0, int_attribute(n, "num_groups", 1), -1)
    epsilon = float_attribute(n, "epsilon", 1e-5)
    over = op.ints(0, *range(2, size))

    def by_x() -> ir.Value:
        dz = op.Mul(dy, op.Reshape(scale, op.ints(-1, *[1] * (size - 2))))
        parts = op.Reshape(x, grouped)
        grad = standardised_grad(op, parts, op.Reshape(dz, grouped), [2], epsilon)
        return reshape_like(op, grad if grad.dtype == x.dtype else op.Cast(grad, to=x.dtype), x)

    def by_scale() -> ir.Value:
        z, _ = _standardise(op, op.Reshape(x, grouped), [2], epsilon)
        z = reshape_like(op, op.Cast(z, to=x.dtype) if is_half(x) else z, x)
        return op.ReduceSum(op.Mul(dy, z), over, keepdims=0)

    return [by_x, by_scale, lambda: op.ReduceSum(dy, over, keepdims=0)]


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
