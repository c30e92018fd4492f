"""Operators that the ONNX standard defines by simpler ones: differentiated through those."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx.inliner
import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.inference import complete_shapes
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.rules.through import gradients_of_inputs
from onnxcam_export.gradient.shapes import constant

LARGEST_CONSTANT = 1024  # elements of an input that shape inference may want to read


def by_body(op: Ops, n: ir.Node, *dys: ir.Value | None) -> Sequence[Grad]:
    """The rules of the operators in the standard's definition of `n`."""
    body = ir.from_proto(_expanded(op, n)).graph
    by_name = {value.name: value for value in n.inputs if value is not None}
    copies: dict[ir.Value, ir.Value | None] = {
        value: by_name[value.name] for value in [*body.inputs, *body.initializers.values()]
    }
    nodes = [_copy(op, node, copies) for node in body]
    ends = {
        end: dy
        for value, dy in zip(body.outputs, [d for d in dys if d is not None], strict=True)
        if (end := copies[value]) is not None
    }
    return gradients_of_inputs(op, n, nodes, ends)


def _expanded(op: Ops, n: ir.Node) -> onnx.ModelProto:
    """The body as a model of its own; its outputs are those of `n` that a gradient flows to."""
    graph = onnx.GraphProto(name=n.op_type)
    graph.node.append(ir.to_proto(n))
    for value in dict.fromkeys(v for v in n.inputs if v is not None):
        graph.input.append(ir.to_proto(value))
        array = constant(value)
        if array is not None and array.size <= LARGEST_CONSTANT:
            graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    graph.output.extend(ir.to_proto(v) for v in n.outputs if v.name)
    model = onnx.ModelProto(graph=graph, ir_version=10)
    model.opset_import.append(onnx.helper.make_opsetid("", op.opset))
    try:
        body = onnx.inliner.inline_selected_functions(
            model, [(n.domain, n.op_type)], inline_schema_functions=True
        )
    except RuntimeError as error:  # an input left out before one that is there
        raise UnsupportedOpError("onnx cannot write it as simpler operators here") from error
    if any(node.op_type == n.op_type for node in body.graph.node):
        raise UnsupportedOpError("the standard has no definition by simpler operators for it")
    return body


def _copy(op: Ops, node: ir.Node, copies: dict[ir.Value, ir.Value | None]) -> ir.Node:
    inputs = [None if value is None else copies[value] for value in node.inputs]
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    outputs = op.emit(node.op_type, inputs, attributes, outputs=len(node.outputs))
    for before, after in zip(node.outputs, outputs, strict=True):
        copies[before] = after
        after.shape = before.shape
        if before.dtype is not None:
            after.dtype = before.dtype
    complete_shapes([op.nodes[-1]], op.opset)
    return op.nodes[-1]


_NAMES = """RMSNormalization RotaryEmbedding Attention CenterCropPad SwiGLU
NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss"""

TABLE = {("", name): by_body for name in _NAMES.split()}
