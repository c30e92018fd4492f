"""Quantised operators (QLinear...) as dequantise, compute, quantise: the QDQ form.

Inputs come in triples: integers, scale, zero point. Definitions: the ONNX standard for QLinearConv
and QLinearMatMul, onnxruntime's contributed operators for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from onnxcam.errors import ModelError
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import constant, int_attribute
from onnxcam_export.lowered.fused import MICROSOFT, attributes_of, input_at


def _parameter(op: Ops, n: ir.Node, position: int) -> ir.Value | None:
    """A scale or zero point; one number of shape [1] becomes a scalar, as QDQ wants it."""
    value = input_at(n, position)
    array = constant(value)
    if value is None or array is None or array.ndim == 0 or array.size > 1:
        return value
    return op.const(array.reshape(()), value.dtype)


def _real(op: Ops, n: ir.Node, first: int, axis: int = 1) -> ir.Value:
    """The real values of the triple at input `first`."""
    scale, zero = _parameter(op, n, first + 1), _parameter(op, n, first + 2)
    inputs = [n.inputs[first], scale] if zero is None else [n.inputs[first], scale, zero]
    value = op.DequantizeLinear(*inputs, axis=axis)
    value.dtype = ir.DataType.FLOAT
    return value


def _integers(op: Ops, n: ir.Node, value: ir.Value, first: int) -> Sequence[ir.Value]:
    """`value` quantised with the scale at input `first` and the zero point behind it."""
    scale, zero = _parameter(op, n, first), _parameter(op, n, first + 1)
    value.name = f"{n.outputs[0].name}/real"  # what a layer can be: floats, by a lasting name
    inputs = [value, scale] if zero is None else [value, scale, zero]
    result = op.QuantizeLinear(*inputs)
    result.dtype = ir.DataType.UINT8 if zero is None or zero.dtype is None else zero.dtype
    return [result]


def _bias(op: Ops, n: ir.Node, position: int, x_scale: int, w_scale: int) -> list[ir.Value]:
    """An int32 bias, whose scale is that of the product."""
    bias = input_at(n, position)
    if bias is None:
        return []
    of_x, of_w = constant(n.inputs[x_scale]), constant(n.inputs[w_scale])
    if of_x is None or of_w is None:
        raise ModelError(f"{n.op_type} '{n.name}': its scales must be constants")
    scale = (of_x.astype(np.float64) * of_w.astype(np.float64)).astype(np.float32)
    scale = scale.reshape(() if scale.size == 1 else -1)
    real = op.DequantizeLinear(bias, op.const(scale, ir.DataType.FLOAT), axis=0)
    real.dtype = ir.DataType.FLOAT
    return [real]


def _conv(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    inputs = [_real(op, n, 0), _real(op, n, 3, axis=0), *_bias(op, n, 8, 1, 4)]
    _channels_first(n)
    value = op.emit("Conv", inputs, attributes_of(n, "channels_last"))[0]
    return _integers(op, n, value, 6)


def _matmul(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    return _integers(op, n, op.MatMul(_real(op, n, 0), _real(op, n, 3, axis=1)), 6)


def _gemm(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    axis = 0 if int_attribute(n, "transB", 0) else 1
    inputs = [_real(op, n, 0), _real(op, n, 3, axis), *_bias(op, n, 6, 1, 4)]
    value = op.emit("Gemm", inputs, attributes_of(n))[0]
    return [value] if input_at(n, 7) is None else _integers(op, n, value, 7)


def _concat(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    parts = [_real(op, n, first) for first in range(2, len(n.inputs), 3)]
    value = op.emit("Concat", parts, attributes_of(n))[0]
    return _integers(op, n, value, 0)


def _channels_first(n: ir.Node) -> None:
    if int_attribute(n, "channels_last", 0):
        raise ModelError(
            f"{n.op_type} '{n.name}' has its channels last: onnxruntime has optimised this file's "
            "layout; export from the original file"
        )


def _of(name: str, triples: int = 1) -> Callable[[Ops, ir.Node], Sequence[ir.Value | None]]:
    """The same operator on real values."""

    def lowering(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
        _channels_first(n)
        attributes = attributes_of(n, "channels_last", "opset")
        inputs: list[ir.Value] = [_real(op, n, 3 * i) for i in range(triples)]
        if name == "ReduceMean" and "axes" in attributes:
            inputs.append(op.ints(*attributes.pop("axes")))
        return _integers(op, n, op.emit(name, inputs, attributes)[0], 3 * triples)

    return lowering


TABLE = {
    ("", "QLinearConv"): _conv,
    (MICROSOFT, "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    (MICROSOFT, "QGemm"): _gemm,
    (MICROSOFT, "QLinearAdd"): _of("Add", 2),
    (MICROSOFT, "QLinearMul"): _of("Mul", 2),
    (MICROSOFT, "QLinearLeakyRelu"): _of("LeakyRelu"),
    (MICROSOFT, "QLinearSigmoid"): _of("Sigmoid"),
    (MICROSOFT, "QLinearSoftmax"): _of("Softmax"),
    (MICROSOFT, "QLinearAveragePool"): _of("AveragePool"),
    (MICROSOFT, "QLinearGlobalAveragePool"): _of("GlobalAveragePool"),
    (MICROSOFT, "QLinearReduceMean"): _of("ReduceMean"),
    (MICROSOFT, "QLinearConcat"): _concat,
}
