"""Operators without a formula of their own: differentiated through simpler ones that they equal.

The forward graph keeps the operator (and onnxruntime its kernel); what the gradient needs of the
inside is computed again beside it, and what it does not need is pruned. Replacing the operator
itself was the alternative: its many small nodes would cost every run, the ones before the layer
too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from onnxcam_export.gradient.inference import complete_shapes
from onnxcam_export.gradient.ops import FLOATS, Grad, Ops
from onnxcam_export.gradient.shapes import constant

# Emits nodes that compute the outputs of a node and returns these.
Decomposition = Callable[[Ops, ir.Node], Sequence[ir.Value]]


def through(decompose: Decomposition) -> Callable[..., Sequence[Grad]]:
    """The rule of an operator that `decompose` writes as operators with rules."""

    def rule(op: Ops, n: ir.Node, *dys: ir.Value | None) -> Sequence[Grad]:
        first = len(op.nodes)
        outputs = decompose(op, n)
        nodes = op.nodes[first:]
        complete_shapes(nodes, op.opset)
        ends = {out: dy for out, dy in zip(outputs, dys, strict=False) if dy is not None}
        return gradients_of_inputs(op, n, nodes, ends)

    return rule


def gradients_of_inputs(
    op: Ops, n: ir.Node, nodes: Sequence[ir.Node], ends: Mapping[ir.Value, ir.Value]
) -> list[Grad]:
    """Back along `nodes`, which compute `ends` (with their gradients) from the inputs of `n`."""
    # The walk applies the rules, of which this is a part: imported late, as they know each other.
    from onnxcam_export.gradient.walk import backpropagate, paths_between

    starts = [v for v in n.inputs if v is not None and v.dtype in FLOATS and constant(v) is None]
    grads = backpropagate(op, paths_between(nodes, starts, list(ends)), ends, starts)
    return [None if value is None else grads.get(value) for value in n.inputs]
