"""Which axis of a tensor holds the channels, read off the operators around it.

Convolutions, pools and normalisations say where the channels are (axis 1); elementwise
operators keep the axis, Transpose moves it, a Reshape that joins or parts the spatial axes
leaves it where it is. What is said of one tensor is carried along through the graph, forwards
and backwards, until nothing new is learnt. Of what is left, layer normalisations over the last
axis and products with a weight say that the channels are last.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import onnx_ir as ir

from onnxcam_export.gradient.shapes import constant, dims, int_attribute, ints_attribute

_ANCHORS = frozenset(
    """Conv ConvTranspose ConvInteger QLinearConv MaxPool AveragePool LpPool
    GlobalAveragePool GlobalMaxPool BatchNormalization InstanceNormalization
    GroupNormalization LRN DepthToSpace SpaceToDepth FusedConv""".split()
)
KEEPING = frozenset(
    """Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Softplus
    Softsign Gelu Mish Swish Clip Identity Dropout Cast CastLike Abs Neg Exp Log Sqrt
    Reciprocal Erf Pow Add Sub Mul Div Max Min Sum Mean Where Concat Pad Slice Split Resize
    Upsample QuantizeLinear DequantizeLinear ThresholdedRelu ReduceMean ReduceMax ReduceSum
    Gather LayerNormalization RMSNormalization SimplifiedLayerNormalization Expand
    """.split()
)
LAST_AXIS_NORMS = frozenset(
    {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"}
)
# What exporters put between a weight and its use.
_OF_WEIGHTS = frozenset({"DequantizeLinear", "Transpose", "Identity", "Cast"})
# Of these, what an output element reads spans positions along other axes than its own.
_MIXING = frozenset({"Pad", "Resize", "Upsample", "ReduceMean", "ReduceMax", "ReduceSum"})


def channel_axes(nodes: Sequence[ir.Node], picture: ir.Value | None = None) -> dict[ir.Value, int]:
    """The channel axis of every tensor of rank 3 or more of which it is known."""
    axes: dict[ir.Value, int] = {}
    queue: deque[ir.Value] = deque()

    def learn(value: ir.Value | None, axis: int) -> None:
        if value is not None and value not in axes and _rank(value) >= 3:
            axes[value] = axis
            queue.append(value)

    def carry() -> None:
        while queue:
            value = queue.popleft()
            producer = value.producer()
            for node in [*([producer] if producer else []), *value.consumers()]:
                for neighbour, axis in _neighbours(node, value, axes[value]):
                    learn(neighbour, axis)

    for node in nodes:
        if node.op_type in _ANCHORS:
            learn(node.inputs[0], 1)
            learn(node.outputs[0], 1)
    carry()
    for node in nodes:
        if node.op_type in LAST_AXIS_NORMS and _over_last_axis(node):
            x = node.inputs[0]
            if _rank(x) == 3 or (_rank(x) > 3 and _looks_like(x, picture)):
                learn(x, _rank(x) - 1)
                learn(node.outputs[0], _rank(x) - 1)
    carry()
    for node in nodes:
        if is_dense(node) and _rank(node.inputs[0]) == 3:
            learn(node.inputs[0], 2)
            learn(node.outputs[0], 2)
            carry()
    return axes


def is_dense(node: ir.Node) -> bool:
    """Whether a node multiplies the last axis of its input by a constant matrix."""
    return node.op_type == "MatMul" and _rank(node.inputs[1]) == 2 and is_weight(node.inputs[1])


def works_on_rows(node: ir.Node, axis: int) -> bool:
    """Whether position i along `axis` of the output depends on position i of the inputs only."""
    last = _rank(node.inputs[0]) - 1
    if is_dense(node) or node.op_type in LAST_AXIS_NORMS:
        return axis != last
    if node.op_type in ("Concat", "Gather", "Slice", "Split"):
        return int_attribute(node, "axis", 0) % (last + 1) != axis or node.op_type == "Slice"
    if node.op_type in _MIXING:
        return False
    return node.op_type in KEEPING


def _neighbours(node: ir.Node, value: ir.Value, axis: int) -> list[tuple[ir.Value | None, int]]:
    x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
    if node.op_type == "Transpose":
        perm = ints_attribute(node, "perm") or list(range(_rank(value)))[::-1]
        if value is x:
            return [(y, perm.index(axis))]
        return [(x, perm[axis])]
    if node.op_type == "Reshape" and x is not None:
        if value is x:
            return [(y, at)] if (at := _reshaped_axis(x, axis, y)) is not None else []
        if value is y:
            return [(x, at)] if (at := _reshaped_axis(y, axis, x)) is not None else []
        return []
    if is_dense(node):
        return [(v, axis) for v in (x, y)]
    if node.op_type not in KEEPING:
        return []
    others = [*node.inputs, *node.outputs[: None if node.op_type == "Split" else 1]]
    return [(v, axis) for v in others if v is not None and _rank(v) == _rank(value)]


def _reshaped_axis(x: ir.Value, axis: int, y: ir.Value) -> int | None:
    """Where the channels go when a Reshape joins or parts the spatial axes, and nothing else."""
    if x.shape is None or y.shape is None or len(y.shape) < 3 or len(x.shape) < 3:
        return None
    before, after = dims(x), dims(y)
    if before == after:
        return axis
    channels = before[axis]
    if channels is None or None in before[1:] or None in after[1:]:
        return None
    if axis == len(before) - 1 and after[-1] == channels and after[1:] != before[1:]:
        return len(after) - 1 if _product(after[1:-1]) == _product(before[1:-1]) else None
    if axis == 1 and after[1] == channels:
        return 1 if _product(after[2:]) == _product(before[2:]) else None
    return None


def _product(sizes: Sequence[int | None]) -> int:
    return math.prod(size or 0 for size in sizes)


def _over_last_axis(node: ir.Node) -> bool:
    size = _rank(node.inputs[0])
    return size >= 3 and int_attribute(node, "axis", -1) % size == size - 1


def _looks_like(value: ir.Value | None, picture: ir.Value | None) -> bool:
    """Whether [N, a, b, C] has the picture's proportions.

    The queries of an attention head, [N, heads, tokens, C], are normalised too.
    """
    if value is None or picture is None or (_rank(picture), _rank(value)) != (4, 4):
        return True
    sizes = dims(picture)
    height, width = sizes[1:3] if sizes[3] in (1, 3) and sizes[1] not in (1, 3) else sizes[2:4]
    a, b = dims(value)[1:3]
    if height is None or width is None or a is None or b is None:
        return True
    return abs(a * width - b * height) < max(height, width)


def is_weight(value: ir.Value | None) -> bool:
    """Whether a value is a constant, plain, dequantised or turned round."""
    producer = value.producer() if value is not None else None
    while producer is not None and producer.op_type in _OF_WEIGHTS:
        value = producer.inputs[0]
        producer = value.producer() if value is not None else None
    return constant(value) is not None


def _rank(value: ir.Value | None) -> int:
    return 0 if value is None or value.shape is None else len(value.shape)
