"""What rewrites read off emitted nodes."""

from __future__ import annotations

import onnx_ir as ir

from onnxcam_export.gradient.shapes import constant, int_attribute


def producer_of(node: ir.Node, position: int = 0) -> ir.Node | None:
    """The node that makes an input, None for a graph's input, a constant, or no input at all."""
    value = node.inputs[position]
    return value.producer() if value is not None else None


def averaged_axes(node: ir.Node) -> list[int] | None:
    """The axes that a ReduceMean takes away; None for another node, or another form of it."""
    if node.op_type != "ReduceMean" or int_attribute(node, "keepdims", 1):
        return None
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if axes is None else [int(axis) for axis in axes]
