"""Fused operators written as the standard ones they were fused from, and shapes filled in.

Files that onnxruntime has optimised (`com.microsoft`: FusedConv, BiasGelu, ...) and quantised
files in operator form (QLinearConv, ...) become plain and QDQ graphs: layers are found in them,
derivatives exist, and onnxruntime fuses them again when it loads the file. Names stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from onnxcam.errors import ModelError
from onnxcam_export.gradient.inference import complete_shapes
from onnxcam_export.gradient.ops import Ops, names_in
from onnxcam_export.lowered import attention, fused, quantized
from onnxcam_export.lowered.branches import inline_fixed_branch
from onnxcam_export.lowered.loops import inline_fixed_loop

Lowering = Callable[[Ops, ir.Node], Sequence[ir.Value | None]]

LOWERINGS: Mapping[tuple[str, str], Lowering] = {
    **fused.TABLE,
    **attention.TABLE,
    **quantized.TABLE,
}

_FOR_ONE_MACHINE = "com.microsoft.nchwc"


def lower(model: ir.Model) -> None:
    """Replace what :data:`LOWERINGS` knows, in place, and complete the shapes of the whole graph.

    Raises:
        ModelError: a graph whose layout was optimised for one kind of processor.
    """
    graph = model.graph
    opset = model.opset_imports[""]
    names = names_in(graph)
    op = Ops(names, opset, prefix="lowered/")
    table = dict(LOWERINGS)
    if opset < fused.GROUP_NORMALIZATION_OPSET:
        table |= fused.FIRST_GROUP_NORMALIZATION
    waiting = deque(graph)
    while waiting:
        node = waiting.popleft()
        if node.op_type == "If" and (branch := inline_fixed_branch(graph, node, names)):
            waiting.extendleft(reversed(branch))
            continue
        if node.op_type in ("Loop", "Scan") and (
            rounds := inline_fixed_loop(op, graph, node, names)
        ):
            waiting.extendleft(reversed(rounds))
            continue
        key = ("" if node.domain == "ai.onnx" else node.domain, node.op_type)
        if node.domain == _FOR_ONE_MACHINE or node.op_type.startswith("Nhwc"):
            raise ModelError(
                f"operator {node.domain}.{node.op_type} '{node.name}': onnxruntime has optimised "
                "this file's layout for one kind of processor; export from the original file, or "
                "save it at most at the level ORT_ENABLE_EXTENDED"
            )
        if key in table:
            replace(graph, op, node, table[key](op, node), opset)
        else:
            complete_shapes([node], opset)
    for value in op.initializers.values():
        graph.register_initializer(value)


def replace(
    graph: ir.Graph, op: Ops, node: ir.Node, results: Sequence[ir.Value | None], opset: int
) -> None:
    """Put the nodes that `op` holds in the place of `node`; the results take its outputs' names."""
    for emitted in op.nodes:
        graph.insert_before(node, emitted)
    complete_shapes(op.nodes, opset)
    op.nodes = []
    for old, new in zip(node.outputs, results, strict=False):
        if new is None:
            continue
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        name = old.name
        old.name = f"{name}/fused"
        new.name = name
    graph.remove(node, safe=True)
