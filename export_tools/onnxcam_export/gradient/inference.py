"""Shapes that onnx's inference over the whole graph leaves open.

It does not evaluate shapes that are computed in the graph, nor look into every function. Here
each node is inferred by its own schema, with the inputs it computes from constants filled in.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx.shape_inference
import onnx_ir as ir

from onnxcam_export.gradient.folding import folded
from onnxcam_export.gradient.shapes import is_nameless

# Functions whose schema infers nothing: the output has the shape of the first input.
_LIKE_INPUT = frozenset(
    "GroupNormalization MeanVarianceNormalization RMSNormalization RotaryEmbedding Celu".split()
)


def complete_shapes(nodes: Iterable[ir.Node], opset: int) -> None:
    """Give shape and dtype to the outputs that lack them, in the nodes' (topological) order."""
    for node in nodes:
        if any(v.shape is None or v.dtype is None or _is_vague(v) for v in node.outputs):
            _infer(node, opset)


def _is_vague(value: ir.Value) -> bool:
    """Whether a dimension is unknown without even a name."""
    return value.shape is not None and any(map(is_nameless, value.shape))


def _infer(node: ir.Node, opset: int) -> None:
    if node.domain not in ("", "ai.onnx"):
        return
    first = node.inputs[0] if node.inputs else None
    if node.op_type in _LIKE_INPUT and first is not None and first.shape is not None:
        node.outputs[0].shape = first.shape
        if first.dtype is not None:
            node.outputs[0].dtype = first.dtype
        return
    types, data = {}, {}
    for value in node.inputs:
        if value is None or value.name is None:
            continue
        if value.dtype is None:
            return
        types[value.name] = _type(value)
        array = folded(value)
        if array is not None:
            data[value.name] = onnx.numpy_helper.from_array(array, value.name)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        versions = [onnx.helper.make_opsetid("", opset)]
        found = onnx.shape_inference.infer_node_outputs(
            schema, ir.to_proto(node), types, data, opset_imports=versions
        )
    except Exception:  # no schema, or types that contradict it: stays open
        return
    for value in node.outputs:
        proto = found.get(value.name or "")
        if proto is None or not proto.HasField("tensor_type"):
            continue
        if proto.tensor_type.elem_type:
            value.dtype = ir.DataType(proto.tensor_type.elem_type)
        if proto.tensor_type.HasField("shape"):
            value.shape = ir.Shape([_dim(d) for d in proto.tensor_type.shape.dim])


def _type(value: ir.Value) -> onnx.TypeProto:
    assert value.dtype is not None
    shape = None
    if value.shape is not None:
        shape = [size if isinstance(size, int) else (size.value or None) for size in value.shape]
    return onnx.helper.make_tensor_type_proto(int(value.dtype), shape)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) or None
