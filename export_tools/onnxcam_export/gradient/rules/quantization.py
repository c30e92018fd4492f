"""Quantised models in QDQ form: straight through the rounding, zero where it saturated.

In such files ReLU and Clip are absorbed into the saturation of QuantizeLinear, so the mask is
what keeps their derivative. The straight-through estimator: arXiv 1308.3432, section 4. The
gradient at an integer tensor is by its integer value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import FLOATS, Grad, Ops
from onnxcam_export.gradient.rules.arithmetic import _x, _y
from onnxcam_export.gradient.rules.convolution import transposed, windows_of
from onnxcam_export.gradient.rules.dense import swap_last, times_weight_transposed
from onnxcam_export.gradient.shapes import (
    constant,
    dims,
    int_attribute,
    rank,
    spatial,
    sum_to,
    zeros_like,
)


def _quantize(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    x, scale = _x(n), _per_axis(n, 1)
    zero_point = _per_axis(n, 2) if len(n.inputs) > 2 and n.inputs[2] is not None else np.zeros(1)
    limits = np.iinfo((_y(n).dtype or ir.DataType.UINT8).numpy())
    # What rounds to a representable integer has not saturated (as in torch.fake_quantize).
    lowest = op.const((limits.min - 0.5 - zero_point) * scale, x.dtype)
    highest = op.const((limits.max + 0.5 - zero_point) * scale, x.dtype)
    inside = op.And(op.Greater(x, lowest), op.Less(x, highest))
    return [op.Where(inside, op.Div(dy, scale), 0.0), None, None]


def _dequantize(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[ir.Value | None]:
    return [op.Mul(dy, _per_axis(n, 1)), None, None]


def _per_axis(n: ir.Node, position: int) -> np.ndarray:
    """A scale or zero point, shaped so that it broadcasts along the quantised axis."""
    value = constant(n.inputs[position])
    if value is None or int_attribute(n, "block_size", 0):
        raise UnsupportedOpError(
            "scales computed at run time and blocked quantisation have no derivative here"
        )
    array = value.astype(np.float64)
    if array.ndim == 0 or array.size == 1:
        return array.reshape(())
    shape = [1] * rank(_x(n))
    shape[int_attribute(n, "axis", 1)] = -1
    return array.reshape(shape)


def _dynamic_quantize(
    op: Ops, n: ir.Node, dy: ir.Value | None, *_: ir.Value | None
) -> Sequence[Grad]:
    """Straight through, with the scale and the zero point that were found taken as given."""
    if dy is None:
        return [lambda: zeros_like(op, _x(n))]
    return [op.Div(dy, n.outputs[1])]


def _weight_as_float(op: Ops, n: ir.Node, dtype: ir.DataType | None) -> ir.Value:
    """The integer weight without its zero point; onnxruntime folds this when it loads the file."""
    weight = _x(n, 1)
    value = op.Cast(weight, to=dtype)
    if len(n.inputs) > 3 and n.inputs[3] is not None:
        point = op.Cast(n.inputs[3], to=dtype)
        if n.op_type == "ConvInteger" and rank(_x(n, 3)) == 1:
            point = op.Reshape(point, op.ints(-1, *[1] * (rank(weight) - 1)))
        value = op.Sub(value, point)
    value.shape = weight.shape
    return value


def _matmul_integer(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    a, weight = _x(n), _x(n, 1)
    nothing = op.const(0.0, dy.dtype)  # the zero point is taken as given
    b = _weight_as_float(op, n, dy.dtype)
    if rank(weight) == 2:
        return [times_weight_transposed(op, dy, b, a), None, nothing]
    da = op.MatMul(dy, swap_last(op, b))
    return [sum_to(op, da, [*dims(_y(n))[:-2], *dims(a)[-2:]], a), None, nothing]


def _conv_integer(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    weight = _weight_as_float(op, n, dy.dtype)
    w = windows_of(n, [size or 0 for size in spatial(_x(n, 1))])
    dx = transposed(op, dy, weight, w, int_attribute(n, "group", 1), _x(n))
    return [dx, None, op.const(0.0, dy.dtype)]


TABLE = {
    ("", "DynamicQuantizeLinear"): _dynamic_quantize,
    ("", "MatMulInteger"): _matmul_integer,
    ("", "ConvInteger"): _conv_integer,
    ("", "QuantizeLinear"): _quantize,
    ("", "DequantizeLinear"): _dequantize,
}

# Integers of these types come out of a quantisation and carry its gradient.
CARRIERS = FLOATS | {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16}
