"""From the score back to the activation: which rule is applied where, and how results add up."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxcam.errors import LayerError, UnsupportedOpError
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.rules import BROADCASTING, CARRIERS, RULES
from onnxcam_export.gradient.shapes import dims, sum_to


def gradient(
    op: Ops, nodes: Sequence[ir.Node], score: ir.Value, seed: ir.Value, activation: ir.Value
) -> ir.Value:
    """Emit d(sum of seed * score) / d(activation) and return it.

    The activation counts as a free variable: only paths that lead through it contribute, as
    with autograd when a network is cut there.

    Args:
        op: collects the emitted nodes.
        nodes: the forward graph in topological order.
        score: the differentiated value.
        seed: the gradient at `score`, of its shape and dtype.
        activation: the value to differentiate by.

    Raises:
        LayerError: the score does not depend on the activation.
        UnsupportedOpError: an operator on the path has no derivative.
    """
    path = path_between(nodes, activation, score)
    if not path and activation is not score:
        raise LayerError(_why_no_path(nodes, activation, score))
    active = {activation} | {value for node in path for value in node.outputs}
    contributions: dict[ir.Value, ir.Value] = {score: seed}
    for node in reversed(path):
        output_grads = [contributions.get(value) for value in node.outputs]
        if all(grad is None for grad in output_grads):
            continue
        input_grads = _apply_rule(op, node, output_grads)
        for position, value in enumerate(node.inputs):
            if value is None or value not in active or value.dtype not in CARRIERS:
                continue
            grad = input_grads[position] if position < len(input_grads) else None
            if grad is None:
                raise UnsupportedOpError(
                    f"{_describe(node)} has no derivative by its input {position} "
                    f"('{value.name}'); {_advice(node)}"
                )
            if _key(node) in BROADCASTING:
                grad = sum_to(op, grad, dims(node.outputs[0]), value)
            before = contributions.get(value)
            contributions[value] = grad if before is None else op.Add(before, grad)
    return contributions[activation]


def path_between(nodes: Sequence[ir.Node], start: ir.Value, end: ir.Value) -> list[ir.Node]:
    """The nodes that lie between two values, in topological order.

    A value carries a derivative when it depends on `start` and is a float, or quantised.
    """
    reached = {start}
    forward: list[ir.Node] = []
    for node in nodes:
        if start in node.outputs or not any(value in reached for value in node.inputs):
            continue
        forward.append(node)
        reached.update(v for v in node.outputs if v.dtype in CARRIERS or v.dtype is None)
    needed = {end}
    path: list[ir.Node] = []
    for node in reversed(forward):
        if any(value in needed and value in reached for value in node.outputs):
            path.append(node)
            needed.update(value for value in node.inputs if value is not None)
    return path[::-1]


def _apply_rule(
    op: Ops, node: ir.Node, output_grads: Sequence[ir.Value | None]
) -> Sequence[ir.Value | None]:
    key = _key(node)
    if key not in RULES:
        raise UnsupportedOpError(
            f"{_describe(node)} lies between the layer and the score and onnxcam has no "
            f"derivative for it; {_advice(node)}"
        )
    return RULES[key](op, node, *output_grads)


def _key(node: ir.Node) -> tuple[str, str]:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def _describe(node: ir.Node) -> str:
    domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
    graph = node.graph
    opset = graph.opset_imports.get(node.domain) if isinstance(graph, ir.Graph) else None
    return f"operator {domain}{node.op_type} '{node.name}' (opset {opset})"


def _advice(node: ir.Node) -> str:
    return f"choose a layer after it, such as its output '{node.outputs[0].name}'"


def _why_no_path(nodes: Sequence[ir.Node], activation: ir.Value, score: ir.Value) -> str:
    """Name the integer operator that cuts the path, if it is that, or say that there is none."""
    reached = {activation}
    cuts: list[ir.Node] = []
    for node in nodes:
        if any(value in reached for value in node.inputs):
            reached.update(node.outputs)
            if node.op_type not in ("Shape", "Size") and not any(
                v.dtype in CARRIERS for v in node.outputs
            ):
                cuts.append(node)
    if score in reached and cuts:
        return (
            f"the score depends on layer '{activation.name}' only through "
            f"{_describe(cuts[-1])}, which has no derivative; choose a layer after it"
        )
    return (
        f"layer '{activation.name}' does not lead to the score '{score.name}': it comes after it "
        "or on a branch beside it; `onnxcam inspect` lists the layers that do"
    )
