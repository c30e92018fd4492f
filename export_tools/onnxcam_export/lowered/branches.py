"""An If whose condition is fixed becomes the branch that is taken."""

from __future__ import annotations

import onnx_ir as ir

from onnxcam_export.gradient.shapes import constant


def inline_fixed_branch(graph: ir.Graph, node: ir.Node, taken_names: set[str]) -> list[ir.Node]:
    """Put the branch's nodes in the place of `node` and return them; none if it is not fixed."""
    condition = constant(node.inputs[0])
    if condition is None or node.domain not in ("", "ai.onnx"):
        return []
    branch = node.attributes["then_branch" if condition.all() else "else_branch"].as_graph()
    results = list(branch.outputs)
    branch.outputs.clear()
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        value.name = unique_name(name, taken_names)
        graph.register_initializer(value)
    inner = list(branch)
    for inner_node in inner:
        branch.remove(inner_node)
        for value in inner_node.outputs:
            value.name = unique_name(str(value.name), taken_names)
        graph.insert_before(node, inner_node)
    for old, new in zip(node.outputs, results, strict=True):
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        name = str(old.name)
        old.name = f"{name}/branch"
        if new.producer() in inner:
            new.name = name
    graph.remove(node, safe=True)
    return inner


def unique_name(name: str, taken: set[str]) -> str:
    """`name`, or something like it that is not taken; it is from now on."""
    while name in taken:
        name += "/inlined"
    taken.add(name)
    return name
