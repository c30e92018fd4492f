"""Emitted nodes that compute the same value become one.

Gradients for several targets or layers of one model share masks, factors and, towards the score,
each other; the walk writes them down once for each.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops


def merge_equal(op: Ops, keep: Sequence[ir.Value] = ()) -> None:
    """Drop emitted nodes that repeat an earlier one; `keep` are outputs that stay themselves.

    Every emitted operator is deterministic; the nodes are in topological order.
    """
    first: dict[Hashable, ir.Node] = {}
    kept: list[ir.Node] = []
    outputs = set(keep)
    for node in op.nodes:
        key = _key(node)
        if key is None or not outputs.isdisjoint(node.outputs):
            kept.append(node)
            continue
        same = first.setdefault(key, node)
        if same is node:
            kept.append(node)
            continue
        for old, new in zip(node.outputs, same.outputs, strict=True):
            ir.convenience.replace_all_uses_with(old, new)
        for position in range(len(node.inputs)):
            node.replace_input_with(position, None)
    op.nodes = kept


def _key(node: ir.Node) -> Hashable | None:
    """Operator, inputs and attributes; None for a node with a subgraph."""
    attributes = equal_attributes(node)
    if attributes is None:
        return None
    inputs = tuple(id(value) for value in node.inputs)
    return (node.domain, node.op_type, inputs, attributes, len(node.outputs))


def equal_attributes(node: ir.Node) -> Hashable | None:
    """The attributes, comparable; None where one is a graph."""
    attributes = []
    for name, attribute in sorted(node.attributes.items()):
        value = attribute.value
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            return None
        if attribute.type is ir.AttributeType.TENSOR:
            value = (str(value.dtype), tuple(value.shape.numpy()), value.tobytes())
        elif isinstance(value, (list, tuple)):
            value = tuple(value)
        attributes.append((name, attribute.type, value))
    return tuple(attributes)
