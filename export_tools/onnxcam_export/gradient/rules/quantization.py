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
from onnxcam_export.gradient.ops import FLOATS, Ops
from onnxcam_export.gradient.rules.arithmetic import _x, _y
from onnxcam_export.gradient.shapes import constant, int_attribute, rank


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
            f"{n.op_type} '{n.name}': scales computed at run time and blocked quantisation have no "
            "derivative here; choose a layer after it"
        )
    array = value.astype(np.float64)
    if array.ndim == 0 or array.size == 1:
        return array.reshape(())
    shape = [1] * rank(_x(n))
    shape[int_attribute(n, "axis", 1)] = -1
    return array.reshape(shape)


TABLE = {
    ("", "QuantizeLinear"): _quantize,
    ("", "DequantizeLinear"): _dequantize,
}

# Integers of these types come out of a quantisation and carry its gradient.
CARRIERS = FLOATS | {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16}
