"""The mean of a layer's gradient over space: the weights of Grad-CAM."""

from __future__ import annotations

import onnx_ir as ir

from onnxcam_export.exposure import float32_of, grid_only
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import dims
from onnxcam_export.layers import Candidate


def spatial_mean(op: Ops, layer: Candidate, grad: ir.Value) -> ir.Value:
    """The mean over all axes but the batch and the channels, float32 [N, C]."""
    rank = len(dims(layer.value))
    axes = [axis for axis in range(1, rank) if axis != layer.channel_axis]
    source = grid_only(op, grad, layer)
    while (node := source.producer()) is not None and node.op_type == "Expand":
        # The mean of what was repeated is the mean of what there was.
        inner = node.inputs[0]
        if inner is None or _known_rank(inner) != rank:
            break
        source = inner
    return op.ReduceMean(float32_of(op, source, layer), op.ints(*axes), keepdims=0)


def _known_rank(value: ir.Value) -> int | None:
    """The rank of an emitted value, where it is easily said."""
    if value.shape is not None:
        return len(value.shape)
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "Reshape":
        shape = node.inputs[1]
        return None if shape is None or shape.shape is None else _fixed(shape.shape[0])
    if node.op_type == "ReduceProd" and len(node.inputs) == 1:
        return 0  # the number of pixels
    if node.op_type in ("Mul", "Div", "Add", "Sub", "Where", "Neg", "Cast"):
        ranks = [_known_rank(v) for v in node.inputs if v is not None]
        return None if None in ranks else max(rank for rank in ranks if rank is not None)
    return None


def _fixed(size: int | ir.SymbolicDim) -> int | None:
    return size if isinstance(size, int) else None
