"""A square weight is not read as stored by one product and transposed by another.

OpenVINO's CPU plug-in keeps a weight that it has packed for a product under the address of the
original and the packed shape (`computeWeightsStringHash` in its source, up to 2026.4). A square
weight has the shape of its transpose: where the model and its gradient read the same tensor, one
as it is stored and one transposed, the second may get what was packed for the first, and the
gradient is wrong without a word. At `layer4.0` of ResNet-50 and at ViT-B/16's default layer the
correlation with the right one was 0.00.

So the emitted product reads such a weight over two Slices, which reverse one axis and reverse it
back. Runtimes fold them into a tensor of its own when they load the file; the file does not grow.
Rejected: a Transpose and the product's other way, which OpenVINO takes back; an Identity or a
Reshape, which leave the address as it is; a second copy in the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import dims, int_attribute, ints_attribute, reversed_along

# How a product reads a weight; it tells too which axis, from the first (of a convolution's) or the
# last, is reversed to part it.
_STORED, _TRANSPOSED, _UNKNOWN = 0, 1, 2
# Operator -> how, and the position of the weight. The gradient of one reads it the other way.
_PRODUCTS = {
    "Conv": (_STORED, 1),
    "ConvInteger": (_STORED, 1),
    "ConvTranspose": (_TRANSPOSED, 1),
    "Einsum": (_UNKNOWN, 1),
    "Gemm": (_STORED, 1),
    "MatMul": (_STORED, 1),
    "MatMulInteger": (_STORED, 1),
    "QLinearConv": (_STORED, 3),
    "QLinearMatMul": (_STORED, 3),
}
# What may stand between the stored weight and its product; a Conv's weight is never transposed
# there, it is folded.
_BETWEEN = frozenset({"Transpose", "DequantizeLinear", "Cast"})


@dataclass(frozen=True)
class _Reading:
    """A product that reads a weight; `between` are the nodes from the product to the weight."""

    product: ir.Node
    how: int
    between: tuple[ir.Node, ...]

    def entry(self, emitted: set[ir.Node]) -> tuple[ir.Node, int]:
        """The emitted node, and which of its inputs, where the model's part of the way ends."""
        ours = [node for node in self.between if node in emitted]
        return (ours[-1], 0) if ours else (self.product, _PRODUCTS[self.product.op_type][1])


def part_square_weights(op: Ops, forward: Sequence[ir.Node]) -> None:
    """Let emitted products read a square weight apart from products that read it otherwise."""
    emitted = set(op.nodes)
    readings: dict[ir.Value, list[_Reading]] = defaultdict(list)
    for node in [*op.nodes, *(node for node in forward if node not in emitted)]:
        if (found := _reading(node)) is not None:
            weight, reading = found
            readings[weight].append(reading)
    parted: dict[tuple[ir.Value, int], ir.Value] = {}
    for of_weight in readings.values():
        ours = [reading for reading in of_weight if reading.product in emitted]
        hows = {reading.how for reading in of_weight if reading.product not in emitted}
        for reading in ours:
            # The first way that the weight is read in may stay: the model's where it has one.
            hows = hows or {reading.how}
            if hows != {reading.how} or reading.how == _UNKNOWN:
                _part(op, reading, emitted, parted)


def _reading(node: ir.Node) -> tuple[ir.Value, _Reading] | None:
    """The constant square weight of a product; None for another node or weight."""
    if node.domain or node.op_type not in _PRODUCTS:
        return None
    how, position = _PRODUCTS[node.op_type]
    weight = node.inputs[position] if position < len(node.inputs) else None
    if weight is None:
        return None
    swaps = int_attribute(node, "transB", 0)
    between: list[ir.Node] = []
    while (producer := weight.producer()) is not None and producer.op_type in _BETWEEN:
        if producer.op_type == "Transpose":
            if not _swaps_last_two(producer):
                return None
            swaps += 1
        between.append(producer)
        source = producer.inputs[0]
        assert source is not None
        weight = source
    if weight.is_graph_input() or ir.convenience.get_const_tensor(weight) is None:
        return None
    if not _is_square(node, weight):
        return None
    if swaps % 2 and how != _UNKNOWN:
        how = _TRANSPOSED if how == _STORED else _STORED
    return weight, _Reading(node, how, tuple(between))


def _is_square(node: ir.Node, weight: ir.Value) -> bool:
    """Whether the weight's transpose, of each of its groups, has the weight's shape."""
    sizes = dims(weight) if weight.shape is not None else []
    if len(sizes) < 2 or None in sizes:
        return False
    if node.op_type == "Einsum":
        return len(set(sizes)) < len(sizes)
    if "Conv" in node.op_type:
        first, second = sizes[:2]  # [O, I / group] or [I, O / group]; a depthwise one is no matrix
        return second != 1 and first == (second or 0) * int_attribute(node, "group", 1)
    return sizes[-1] == sizes[-2] != 1


def _swaps_last_two(transpose: ir.Node) -> bool:
    order = ints_attribute(transpose, "perm")
    if order is None:
        value = transpose.inputs[0]
        return value is not None and value.shape is not None and len(value.shape) == 2
    rank = len(order)
    return order == [*range(rank - 2), rank - 1, rank - 2]


def _part(
    op: Ops,
    reading: _Reading,
    emitted: set[ir.Node],
    parted: dict[tuple[ir.Value, int], ir.Value],
) -> None:
    node, position = reading.entry(emitted)
    value = node.inputs[position]
    assert value is not None
    if value in parted.values():  # a Transpose that another product reads too
        return
    axis = reading.how % 2
    if "Conv" not in reading.product.op_type:
        axis = -1 - axis
    key = (value, axis)
    if key not in parted:
        parted[key] = reversed_along(op, reversed_along(op, value, [axis]), [axis])
    node.replace_input_with(position, parted[key])
