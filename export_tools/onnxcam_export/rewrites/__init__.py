"""Rewrites of the emitted gradient graph that leave its values as they are, one a file.

The rules write the gradient down plainly; a rewrite finds a form of it that costs less. Each
takes the emitted nodes and replaces some; what nobody reads afterwards is pruned.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.rewrites.gated_sigmoid import gated_sigmoid
from onnxcam_export.rewrites.mask_product import mask_product
from onnxcam_export.rewrites.mean_of_dense import mean_of_dense
from onnxcam_export.rewrites.mean_of_rows import mean_of_rows
from onnxcam_export.rewrites.one_hot_channel import one_hot_channel
from onnxcam_export.rewrites.one_hot_row import one_hot_row
from onnxcam_export.rewrites.stride_one_conv import stride_one_conv
from onnxcam_export.rewrites.strided_depthwise import strided_depthwise
from onnxcam_export.target import Target

Rewrite = Callable[[Ops, Target, ir.Value], None]

REWRITES: tuple[Rewrite, ...] = (
    one_hot_row,
    one_hot_channel,
    mean_of_dense,
    mean_of_rows,
    stride_one_conv,
    strided_depthwise,
    gated_sigmoid,
    mask_product,
)


def prune(op: Ops, wanted: set[ir.Value]) -> None:
    """Drop emitted nodes and constants that nothing wanted depends on.

    onnxruntime runs nodes whose outputs nobody asked for when they stand before one that is.
    """
    emitted = set(op.nodes)
    needed: set[ir.Value] = set()
    stack = list(wanted)
    while stack:
        value = stack.pop()
        producer = value.producer()
        needed.add(value)
        if producer in emitted:
            stack += [v for v in producer.inputs if v is not None and v not in needed]
    kept = []
    for node in op.nodes:
        if any(value in needed for value in node.outputs):
            kept.append(node)
        else:
            for position in range(len(node.inputs)):
                node.replace_input_with(position, None)
    op.nodes = kept
    op.initializers = {name: v for name, v in op.initializers.items() if v in needed}
