"""What rules need to know of shapes and constants: static where possible, else in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxcam.errors import ExportError
from onnxcam_export.gradient.folding import folded
from onnxcam_export.gradient.ops import Ops

# Smaller than what float16 can tell from 0 in a norm: kept from dividing by.
TINY = 1e-7


def dims(value: ir.Value) -> list[int | None]:
    """The shape, None for every dimension that is not a fixed number.

    Raises:
        ExportError: not even the rank is known.
    """
    if value.shape is None:
        raise ExportError(
            f"shape inference could not tell the shape of tensor '{value.name}'; export the model "
            "with fixed shapes (only the batch dimension dynamic)"
        )
    return [dim if isinstance(dim, int) else None for dim in value.shape]


def rank(value: ir.Value) -> int:
    """Number of dimensions."""
    return len(dims(value))


def is_nameless(size: int | ir.SymbolicDim) -> bool:
    """Whether a dimension is unknown without even a name that says where else it occurs.

    Names that begin with unk__ are made up by shape inference, in each of its runs anew.
    """
    if isinstance(size, int):
        return False
    return size.value is None or size.value.startswith("unk__")


def spatial(value: ir.Value) -> list[int | None]:
    """The dimensions behind [N, C]."""
    return dims(value)[2:]


def constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array of an initializer or a Constant node, or what follows from them; else None.

    Small arrays computed from constants and fixed shapes alone (as exporters write the pads of a
    Pad: Shape, Gather, Concat, ...) are evaluated.
    """
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.numpy()
    return folded(value)


def constant_ints(node: ir.Node, position: int) -> list[int] | None:
    """A constant integer input as a list, or None when the input is absent.

    Raises:
        ExportError: the input is there, but computed at run time.
    """
    if position >= len(node.inputs) or node.inputs[position] is None:
        return None
    array = constant(node.inputs[position])
    if array is None:
        raise ExportError(
            f"{node.op_type} '{node.name}': input {position} is computed at run time; "
            "fold the model's constants first"
        )
    return [int(x) for x in array.reshape(-1)]


def ints_attribute(node: ir.Node, name: str) -> list[int] | None:
    """An integer-list attribute, or None when it is absent."""
    attribute = node.attributes.get(name)
    return None if attribute is None else [int(x) for x in attribute.as_ints()]


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def float_attribute(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.as_float())


def string_attribute(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return default if attribute is None else str(attribute.as_string())


def shape_of(op: Ops, value: ir.Value) -> ir.Value:
    """The shape as an int64 vector: a constant when it is static, else a Shape node."""
    sizes = dims(value) if value.shape is not None else [None]
    if None in sizes:
        return op.Shape(value)
    return op.ints(*[size for size in sizes if size is not None])


def reshape_like(op: Ops, grad: ir.Value, like: ir.Value) -> ir.Value:
    """`grad` with the shape of `like`, without a Shape node where one dimension at most is open."""
    sizes = dims(like) if like.shape is not None else [None, None]
    if sizes.count(None) > 1 or 0 in sizes:
        return op.Reshape(grad, op.Shape(like))
    return op.Reshape(grad, op.ints(*[-1 if size is None else size for size in sizes]))


def zeros_like(op: Ops, value: ir.Value) -> ir.Value:
    """Zeros of the shape and dtype of `value` (ConstantOfShape knows no bfloat16)."""
    return op.Expand(op.const(0.0, value.dtype), shape_of(op, value))


def reversed_along(op: Ops, value: ir.Value, axes: Sequence[int]) -> ir.Value:
    """The value with the order along some axes reversed."""
    last = op.ints(*[-1] * len(axes))
    ends = op.ints(*[np.iinfo(np.int64).min] * len(axes))
    made = op.Slice(value, last, ends, op.ints(*axes), last)
    made.shape = value.shape
    return made


def is_half(value: ir.Value) -> bool:
    """Whether the dtype is float16 or bfloat16."""
    return value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def average_pool(op: Ops, value: ir.Value, **attributes: Any) -> ir.Value:
    """AveragePool, which knows no bfloat16 before opset 22."""
    if value.dtype != ir.DataType.BFLOAT16:
        return op.AveragePool(value, **attributes)
    real = op.Cast(value, to=ir.DataType.FLOAT)
    return op.Cast(op.AveragePool(real, **attributes), to=value.dtype)


def scatter_add(
    op: Ops, op_type: str, like: ir.Value, indices: ir.Value, dy: ir.Value, **attributes: int
) -> ir.Value:
    """`dy` added up in zeros of the shape of `like`, by ScatterElements or ScatterND.

    In float32 for halves: onnxruntime's CPU provider adds no halves up, and sums round less.
    """
    half = is_half(like)
    dtype = ir.DataType.FLOAT if half or like.dtype is None else like.dtype
    zero = ir.tensor(np.zeros(1, dtype.numpy()))
    zeros = op.ConstantOfShape(shape_of(op, like), value=zero)
    dy = op.Cast(dy, to=dtype) if half else dy
    attributes_of_add = {**attributes, "reduction": "add"}
    total = op.emit(op_type, [zeros, indices, dy], attributes_of_add)[0]
    return op.Cast(total, to=like.dtype) if half else total


def expand_like(op: Ops, grad: ir.Value, like: ir.Value) -> ir.Value:
    """`grad`, with ones where `like` is larger, broadcast to the shape of `like`."""
    return op.Expand(grad, shape_of(op, like))


def sum_to(op: Ops, grad: ir.Value, broadcast: Sequence[int | None], value: ir.Value) -> ir.Value:
    """Undo a broadcast: sum `grad` (of shape `broadcast`) to the shape of `value`.

    A dimension that is not known to be 1 is taken as not broadcast.
    """
    target = dims(value)
    lead = len(broadcast) - len(target)
    stretched = [
        lead + axis for axis, size in enumerate(target) if size == 1 and broadcast[lead + axis] != 1
    ]
    if stretched:
        grad = op.ReduceSum(grad, op.ints(*stretched), keepdims=1)
    if lead:
        grad = op.ReduceSum(grad, op.ints(*range(lead)), keepdims=0)
    return grad


def axes_of(node: ir.Node, value: ir.Value) -> list[int]:
    """The axes a Reduce operator works on, not negative: attribute or input, default all."""
    axes = ints_attribute(node, "axes") or constant_ints(node, 1)
    if not axes:
        if int_attribute(node, "noop_with_empty_axes", 0):
            return []
        return list(range(rank(value)))
    return sorted(axis % rank(value) for axis in axes)
