"""Keep onnxruntime from folding a zero padding into the MaxPool behind it.

A Pad with zeros that only a MaxPool reads is fused into the pool, where padding counts as minus
infinity: wherever a whole window at the border is negative the result is another (seen with
onnxruntime 1.31; ResNet50V2 from Keras is off by 0.7 %). The fusion leaves a Pad alone that names
its axes, and naming all of them changes nothing else.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxcam_export.gradient.shapes import string_attribute

_REMOVED_FIRST = frozenset({"Identity", "Dropout"})  # the optimiser's first passes drop them
_AXES = 3


def name_axes_of_pads_before_pools(graph: ir.Graph) -> None:
    """Give constant Pads that lead to a MaxPool an `axes` input that names every axis."""
    for node in list(graph):
        if node.op_type != "Pad" or string_attribute(node, "mode", "constant") != "constant":
            continue
        named = len(node.inputs) > _AXES and node.inputs[_AXES] is not None
        x = node.inputs[0]
        if named or x is None or x.shape is None or not leads_to_pool(node.outputs[0]):
            continue
        name = f"{node.outputs[0].name}/axes"
        tensor = ir.tensor(np.arange(len(x.shape)), name=name)
        axes = ir.Value(name=name, shape=ir.Shape([len(x.shape)]), type=ir.TensorType(tensor.dtype))
        axes.const_value = tensor
        graph.register_initializer(axes)
        node.resize_inputs(_AXES + 1)
        node.replace_input_with(_AXES, axes)


def leads_to_pool(value: ir.Value) -> bool:
    """Whether a MaxPool reads it, past what the optimiser drops."""
    return any(
        node.op_type == "MaxPool"
        or (node.op_type in _REMOVED_FIRST and leads_to_pool(node.outputs[0]))
        for node in value.consumers()
    )
