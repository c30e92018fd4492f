"""A gradient that lives in one channel stays in one channel.

Networks that end in class maps (SqueezeNet: 1x1 convolution to a channel per class, ReLU, global
average pool) give a gradient that is zero but for the class's channel, and the convolution's
adjoint multiplies all those zeros: 1000 x 512 products a pixel, of which 512 count. Carried as
one channel [N, 1, h, w] up to the convolution, it is an outer product with one row of the weights.

SqueezeNet 1.1 at 224 px, explaining over plain, 2 threads: 1.03 before (3.5 in fp16), 1.00 after.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import constant, dims
from onnxcam_export.rewrites.one_hot_row import is_pointwise
from onnxcam_export.target import Target, nan_where_out_of_range


def one_hot_channel(op: Ops, target: Target, seed: ir.Value) -> None:
    """Replace 1x1 ConvTransposes of values that are zero outside of the class's channel."""
    channel: dict[ir.Value, ir.Value] = {}  # value [N, C, ...] -> its class's channel [N, 1, ...]
    for node in list(op.nodes):
        if node.op_type == "ConvTranspose" and node.inputs[0] in channel and is_pointwise(node):
            op.replace(node, partial(_outer_product, op, target, node, channel))
        else:
            _carry(op, target, seed, node, channel)


def _carry(
    op: Ops, target: Target, seed: ir.Value, node: ir.Node, channel: dict[ir.Value, ir.Value]
) -> None:
    """Say what a node makes of the one channel, if it keeps it one."""
    output = node.outputs[0]
    first = node.inputs[0] if node.inputs else None
    if node.op_type == "Reshape" and first is seed and _is_class_map(node):
        # Of what is no class the row of the weights is refused or NaN; here every image has its 1.
        channel[output] = op.const(np.ones([1] * _length(node.inputs[1])), seed.dtype)
    elif node.op_type == "Mul" and first in channel and _is_scalar(node.inputs[1]):
        channel[output] = op.Mul(channel[first], node.inputs[1])
    elif node.op_type == "Expand" and first in channel:
        channel[output] = op.Expand(channel[first], _spatial_part(op, node.inputs[1]))
    elif node.op_type == "Where" and node.inputs[1] in channel and _is_zero(node.inputs[2]):
        mask = _channel_of_mask(op, target, first)
        if mask is not None:
            channel[output] = op.Where(mask, channel[node.inputs[1]], 0.0)


def _spatial_part(op: Ops, shape: ir.Value | None) -> ir.Value:
    """[N, C, *spatial] as [1, 1, *spatial]."""
    sizes = constant(shape)
    if sizes is not None:
        return op.ints(1, 1, *[int(size) for size in sizes[2:]])
    spatial = op.Slice(shape, op.ints(2), op.ints(np.iinfo(np.int64).max))
    return op.Concat(op.ints(1, 1), spatial, axis=0)


def _length(shape: ir.Value | None) -> int:
    array = constant(shape)
    return 0 if array is None else len(array)


def _is_class_map(reshape: ir.Node) -> bool:
    shape = constant(reshape.inputs[1])
    return shape is not None and len(shape) > 2 and all(size == 1 for size in shape[2:])


def _is_scalar(value: ir.Value | None) -> bool:
    array = constant(value)
    return array is not None and array.size == 1


def _is_zero(value: ir.Value | None) -> bool:
    array = constant(value)
    return array is not None and array.size == 1 and not array.any()


def _channel_of_mask(op: Ops, target: Target, mask: ir.Value | None) -> ir.Value | None:
    """The class's channel of `x > number`: x gathered before it is compared."""
    node = mask.producer() if mask is not None else None
    if node is None or node.op_type != "Greater" or not _is_scalar(node.inputs[1]):
        return None
    x = node.inputs[0]
    assert x is not None
    picked = op.GatherND(x, op.Unsqueeze(target.index, op.ints(1)), batch_dims=1)
    return op.Greater(op.Unsqueeze(picked, op.ints(1)), node.inputs[1])


def _outer_product(
    op: Ops, target: Target, node: ir.Node, channel: dict[ir.Value, ir.Value]
) -> ir.Value:
    weight, value = node.inputs[1], node.inputs[0]
    assert weight is not None
    assert value is not None
    row = op.Gather(weight, target.index, axis=0)  # [C, F, 1, 1] -> [N, F, 1, 1]
    row = nan_where_out_of_range(op, target, row, len(dims(weight)) - 1)
    return op.Mul(row, channel[value])
