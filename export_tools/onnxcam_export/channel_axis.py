"""Which axis of a tensor holds the channels, read off the operators around it.

Convolutions, pools and normalisations say where the channels are (axis 1); elementwise
operators keep the axis, Transpose moves it. What is said of one tensor is carried along
through the graph, forwards and backwards, until nothing new is learnt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import onnx_ir as ir

from onnxcam_export.gradient.shapes import ints_attribute

_ANCHORS = frozenset(
    """Conv ConvTranspose ConvInteger QLinearConv MaxPool AveragePool LpPool
    GlobalAveragePool GlobalMaxPool BatchNormalization InstanceNormalization
    GroupNormalization LRN DepthToSpace SpaceToDepth FusedConv""".split()
)
_KEEPING = frozenset(
    """Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Softplus
    Softsign Gelu Mish Swish Clip Identity Dropout Cast CastLike Abs Neg Exp Log Sqrt
    Reciprocal Erf Pow Add Sub Mul Div Max Min Sum Mean Where Concat Pad Slice Resize
    Upsample QuantizeLinear DequantizeLinear ThresholdedRelu ReduceMean ReduceMax ReduceSum
    """.split()
)


def channel_axes(nodes: Sequence[ir.Node]) -> dict[ir.Value, int]:
    """The channel axis of every tensor of rank 3 or more of which it is known."""
    axes: dict[ir.Value, int] = {}
    queue: deque[ir.Value] = deque()

    def learn(value: ir.Value | None, axis: int) -> None:
        if value is not None and value not in axes and _rank(value) >= 3:
            axes[value] = axis
            queue.append(value)

    for node in nodes:
        if node.op_type in _ANCHORS:
            learn(node.inputs[0], 1)
            learn(node.outputs[0], 1)
    while queue:
        value = queue.popleft()
        producer = value.producer()
        for node in [*([producer] if producer else []), *value.consumers()]:
            for neighbour, axis in _neighbours(node, value, axes[value]):
                learn(neighbour, axis)
    return axes


def _neighbours(node: ir.Node, value: ir.Value, axis: int) -> list[tuple[ir.Value | None, int]]:
    if node.op_type == "Transpose":
        perm = ints_attribute(node, "perm") or list(range(_rank(value)))[::-1]
        if value is node.inputs[0]:
            return [(node.outputs[0], perm.index(axis))]
        return [(node.inputs[0], perm[axis])]
    if node.op_type not in _KEEPING:
        return []
    others = [*node.inputs, *node.outputs[:1]]
    return [(v, axis) for v in others if v is not None and _rank(v) == _rank(value)]


def _rank(value: ir.Value) -> int:
    return 0 if value.shape is None else len(value.shape)
