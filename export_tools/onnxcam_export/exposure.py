"""The way from a layer's own tensor to [N, C, *spatial], as nodes."""

from __future__ import annotations

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import dims
from onnxcam_export.layers import Candidate, channels_first


def grid_only(op: Ops, value: ir.Value, layer: Candidate) -> ir.Value:
    """`value`, of the layer's layout, without the tokens that lie on no grid."""
    tokens = layer.tokens
    if tokens is None or (tokens.prefix == 0 and tokens.end == dims(layer.value)[tokens.axis]):
        return value
    return op.Slice(value, op.ints(tokens.prefix), op.ints(tokens.end), op.ints(tokens.axis))


def channels_first_of(op: Ops, value: ir.Value, layer: Candidate) -> ir.Value:
    """`value`, of the layer's layout, as [N, C, *spatial]."""
    rank = len(dims(layer.value))
    order = channels_first(rank, layer.channel_axis)
    value = grid_only(op, value, layer)
    if order != sorted(order):
        value = op.Transpose(value, perm=order)
    if layer.tokens is not None:
        value = op.Reshape(value, op.ints(0, 0, *layer.tokens.grid))
    return value


def float32_of(op: Ops, value: ir.Value, layer: Candidate) -> ir.Value:
    """`value`, of the layer's dtype, as float32."""
    same = layer.value.dtype == ir.DataType.FLOAT
    return value if same else op.Cast(value, to=ir.DataType.FLOAT)


def pixels_of(op: Ops, value: ir.Value, layer: Candidate) -> ir.Value:
    """`value`, of the layer's layout, as [N, C, P], P being the product of the spatial axes.

    Channels that stand last stay there until the last node, a Transpose, which onnxruntime makes
    part of the product that reads it.
    """
    sizes = dims(layer.value)
    channels = sizes[layer.channel_axis]
    if layer.channel_axis != len(sizes) - 1 or channels is None:
        value = channels_first_of(op, value, layer)
        return op.Reshape(value, op.ints(0, 0, -1))
    value = grid_only(op, value, layer)
    if len(sizes) > 3:
        value = op.Reshape(value, op.ints(0, -1, channels))
    return op.Transpose(value, perm=[0, 2, 1])


def exposed_shape(layer: Candidate) -> list[int | ir.SymbolicDim]:
    """[N, C, *spatial] of a layer."""
    assert layer.value.shape is not None
    order = channels_first(len(layer.value.shape), layer.channel_axis)
    shape = [layer.value.shape[axis] for axis in order]
    return shape if layer.tokens is None else [*shape[:2], *layer.tokens.grid]
