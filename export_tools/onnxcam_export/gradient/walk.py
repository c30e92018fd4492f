"""From the score back to the activation: which rule is applied where, and how results add up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from onnxcam.errors import LayerError, UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.rules import BROADCASTING, CARRIERS, REFUSED, RULES
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
    return backpropagate(op, path, {score: seed}, [activation])[activation]


def backpropagate(
    op: Ops,
    path: Sequence[ir.Node],
    seeds: Mapping[ir.Value, ir.Value],
    wanted: Sequence[ir.Value],
) -> dict[ir.Value, ir.Value]:
    """Apply the rules along `path`, from the gradients at its ends to those at `wanted`.

    Args:
        op: collects the emitted nodes.
        path: what :func:`paths_between` found between `wanted` and the seeded values.
        seeds: gradient at each end.
        wanted: the values to differentiate by; one that nothing flows to is left out.
    """
    active = {*wanted, *(value for node in path for value in node.outputs)}
    contributions: dict[ir.Value, ir.Value] = dict(seeds)
    for node in reversed(path):
        output_grads = [contributions.get(value) for value in node.outputs]
        if all(grad is None for grad in output_grads):
            continue
        input_grads = _apply_rule(op, node, output_grads, path)
        for position, value in enumerate(node.inputs):
            if value is None or value not in active or not carries(value):
                continue
            grad = input_grads[position] if position < len(input_grads) else None
            if callable(grad):
                grad = grad()
            if grad is None:
                raise UnsupportedOpError(
                    f"{_describe(node)} has no derivative by its input {position} "
                    f"('{value.name}'); {_advice(node, path)}"
                )
            if _key(node) in BROADCASTING:
                grad = sum_to(op, grad, dims(node.outputs[0]), value)
            before = contributions.get(value)
            contributions[value] = grad if before is None else _sum(op, before, grad)
    return {value: contributions[value] for value in wanted if value in contributions}


def _sum(op: Ops, first: ir.Value, second: ir.Value) -> ir.Value:
    """The sum of two contributions; what one of them repeats (as a mean does) is not written out.

    Contributions have the full shape of what they belong to, and Add repeats by itself.
    """
    small_first, small_second = _repeated(first), _repeated(second)
    if small_first is None and small_second is not None:
        return op.Add(first, small_second)
    if small_first is not None and small_second is None:
        return op.Add(small_first, second)
    return op.Add(first, second)


def _repeated(value: ir.Value) -> ir.Value | None:
    node = value.producer()
    return node.inputs[0] if node is not None and node.op_type == "Expand" else None


def path_between(nodes: Sequence[ir.Node], start: ir.Value, end: ir.Value) -> list[ir.Node]:
    """The nodes that lie between two values; see :func:`paths_between`."""
    return paths_between(nodes, [start], [end])


def paths_between(
    nodes: Sequence[ir.Node], starts: Sequence[ir.Value], ends: Sequence[ir.Value]
) -> list[ir.Node]:
    """The nodes that lie between two sets of values, in topological order.

    A value carries a derivative when it depends on a start and is a float, or quantised. What a
    subgraph (of If, Loop, Scan) reads from outside counts as an input of its node.
    """
    reached = set(starts)
    free = frozenset(starts)
    forward: list[ir.Node] = []
    for node in nodes:
        if not any(value in reached for value in _reads(node)) or not free.isdisjoint(node.outputs):
            continue
        forward.append(node)
        reached.update(v for v in node.outputs if v.dtype is None or carries(v))
    needed = set(ends)
    path: list[ir.Node] = []
    for node in reversed(forward):
        if any(value in needed and value in reached for value in node.outputs):
            path.append(node)
            needed.update(_reads(node))
    return path[::-1]


def carries(value: ir.Value) -> bool:
    """Whether a tensor can carry a gradient: floats, and integers that stand for floats."""
    if value.dtype is ir.DataType.INT32:
        # What a product of quantised integers is summed up in.
        producer = value.producer()
        return producer is not None and producer.op_type in ("MatMulInteger", "ConvInteger")
    return value.dtype in CARRIERS


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    for value in node.inputs:
        if value is not None:
            yield value
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                yield from _reads(inner)


def _apply_rule(
    op: Ops, node: ir.Node, output_grads: Sequence[ir.Value | None], path: Sequence[ir.Node]
) -> Sequence[Grad]:
    key = _key(node)
    if key not in RULES:
        raise UnsupportedOpError(
            f"{_describe(node)} lies between the layer and the score and "
            f"{REFUSED.get(key, 'onnxcam has no derivative for it')}; {_advice(node, path)}"
        )
    try:
        return RULES[key](op, node, *output_grads)
    except UnsupportedOpError as error:
        raise UnsupportedOpError(f"{_describe(node)}: {error}; {_advice(node, path)}") from None


def _key(node: ir.Node) -> tuple[str, str]:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def _describe(node: ir.Node) -> str:
    domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
    graph = node.graph
    opset = graph.opset_imports.get(node.domain) if isinstance(graph, ir.Graph) else None
    return f"operator {domain}{node.op_type} '{node.name}' (opset {opset})"


def _advice(node: ir.Node, path: Sequence[ir.Node]) -> str:
    """Name the nearest spatial tensor after `node` from which every operator has a derivative."""
    blocked: set[ir.Value] = set()
    free: list[ir.Value] = []
    for later in reversed(path):
        if later is node:
            break
        if _key(later) not in RULES or any(value in blocked for value in later.outputs):
            blocked.update(_reads(later))
        free += [value for value in later.outputs if value not in blocked and _is_spatial(value)]
    free += [value for value in node.outputs if value not in blocked and _is_spatial(value)]
    if not free:
        return "no tensor with spatial axes lies after it, so this path cannot be explained"
    return f"choose a layer after it, such as '{free[-1].name}'"


def _is_spatial(value: ir.Value) -> bool:
    if value.shape is None or len(value.shape) < 3 or not carries(value):
        return False
    return sum(size != 1 for size in dims(value)[1:]) >= 2


def _why_no_path(nodes: Sequence[ir.Node], activation: ir.Value, score: ir.Value) -> str:
    """Name the integer operator that cuts the path, if it is that, or say that there is none."""
    reached = {activation}
    cuts: list[ir.Node] = []
    for node in nodes:
        if any(value in reached for value in _reads(node)):
            reached.update(node.outputs)
            if node.op_type not in ("Shape", "Size") and not any(carries(v) for v in node.outputs):
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
