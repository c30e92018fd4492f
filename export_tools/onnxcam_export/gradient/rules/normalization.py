"""Normalisation layers, in inference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.rules.arithmetic import _x
from onnxcam_export.gradient.shapes import constant, float_attribute, int_attribute, rank


def _batch_norm(
    op: Ops, n: ir.Node, dy: ir.Value, *_: ir.Value | None
) -> Sequence[ir.Value | None]:
    """Inference: y = (x - mean) scale / sqrt(var + epsilon) + bias, so a factor per channel."""
    epsilon = float_attribute(n, "epsilon", 1e-5)
    scale, variance = constant(n.inputs[1]), constant(n.inputs[4])
    shape = [-1] + [1] * (rank(_x(n)) - 2)
    if scale is not None and variance is not None:
        factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        return [op.Mul(dy, op.const(factor.reshape(shape), _x(n).dtype))]
    in_graph = op.Div(_x(n, 1), op.Sqrt(op.Add(_x(n, 4), epsilon)))
    return [op.Mul(dy, op.Reshape(in_graph, op.ints(*shape)))]


def _standardised_grad(op: Ops, n: ir.Node, dz: ir.Value, axes: list[int]) -> ir.Value:
    """Through z = (x - mean(x)) / sqrt(var(x) + epsilon) over `axes`.

    dx = (dz - mean(dz) - z mean(dz z)) / sqrt(var + epsilon)
    """
    x = _x(n)
    over = op.ints(*axes)
    centred = op.Sub(x, op.ReduceMean(x, over, keepdims=1))
    variance = op.ReduceMean(op.Mul(centred, centred), over, keepdims=1)
    deviation = op.Sqrt(op.Add(variance, float_attribute(n, "epsilon", 1e-5)))
    z = op.Div(centred, deviation)
    along = op.Mul(z, op.ReduceMean(op.Mul(dz, z), over, keepdims=1))
    return op.Div(op.Sub(op.Sub(dz, op.ReduceMean(dz, over, keepdims=1)), along), deviation)


def _layer_norm(
    op: Ops, n: ir.Node, dy: ir.Value, *_: ir.Value | None
) -> Sequence[ir.Value | None]:
    axis = int_attribute(n, "axis", -1) % rank(_x(n))
    dz = op.Mul(dy, _x(n, 1))
    return [_standardised_grad(op, n, dz, list(range(axis, rank(_x(n)))))]


def _instance_norm(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    size = rank(_x(n))
    scale = op.Reshape(_x(n, 1), op.ints(-1, *[1] * (size - 2)))
    return [_standardised_grad(op, n, op.Mul(dy, scale), list(range(2, size)))]


TABLE = {
    ("", "BatchNormalization"): _batch_norm,
    ("", "LayerNormalization"): _layer_norm,
    ("", "InstanceNormalization"): _instance_norm,
}
