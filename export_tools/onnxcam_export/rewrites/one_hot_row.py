"""A one-hot vector times a matrix is one row of it.

The gradient at the input of the last dense layer is the class's row of the weights: a Gather
instead of a product with the whole matrix (C x F values read for every map, 8 MB for the 1000
classes of ResNet-50).
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import (
    constant,
    dims,
    float_attribute,
    int_attribute,
    ints_attribute,
)
from onnxcam_export.target import Target, nan_where_out_of_range


def one_hot_row(op: Ops, target: Target, seed: ir.Value) -> None:
    """Replace Gemm(seed, W) and a 1x1 ConvTranspose(seed, W) by Gather(W, class)."""
    for node in list(op.nodes):
        if not node.inputs or node.inputs[0] is None or not _is_seed(node.inputs[0], seed):
            continue
        if node.op_type == "Gemm":
            op.replace(node, partial(_gemm_row, op, node, target))
        elif node.op_type == "ConvTranspose" and is_pointwise(node):
            op.replace(node, partial(_pointwise_row, op, node, target))


def _is_seed(value: ir.Value, seed: ir.Value) -> bool:
    """The seed itself, or reshaped (the class axis is the only one larger than 1)."""
    while value is not seed:
        node = value.producer()
        if node is None or node.op_type != "Reshape" or node.inputs[0] is None:
            return False
        value = node.inputs[0]
    return True


def _gemm_row(op: Ops, node: ir.Node, target: Target) -> ir.Value:
    weight = node.inputs[1]
    assert weight is not None
    if int_attribute(node, "transB", 0):
        row = op.Transpose(op.Gather(weight, target.index, axis=1), perm=[1, 0])
    else:
        row = op.Gather(weight, target.index, axis=0)
    alpha = float_attribute(node, "alpha", 1.0)
    if alpha != 1.0:
        row = op.Mul(row, alpha)
    return nan_where_out_of_range(op, target, row, 1)


def _pointwise_row(op: Ops, node: ir.Node, target: Target) -> ir.Value:
    weight = node.inputs[1]  # [C, F, 1, 1]: the class's row is [N, F, 1, 1]
    assert weight is not None
    row = op.Gather(weight, target.index, axis=0)
    return nan_where_out_of_range(op, target, row, len(dims(weight)) - 1)


def is_pointwise(node: ir.Node) -> bool:
    """A ConvTranspose of one tap, stride 1, with constant weights and no padding."""
    steps = [int_attribute(node, "group", 1)]
    for name in ("kernel_shape", "strides", "dilations"):
        steps += ints_attribute(node, name) or []
    margins = [
        *(ints_attribute(node, "pads") or []),
        *(ints_attribute(node, "output_padding") or []),
    ]
    return set(steps) == {1} and not any(margins) and constant(node.inputs[1]) is not None
