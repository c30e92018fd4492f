"""A Gather that picks every element of a flat tensor, in order, is a Reshape.

torch.onnx writes `as_strided` as a Gather from the flat tensor, at positions that are computed in
the graph where the batch is open: Range(batch) * C + [0 .. C-1]. Pooling a channels-last
activation to one pixel (ConvNeXt, Swin) ends in one that changes nothing. Its derivative would be
a ScatterND that adds, which OpenVINO 2025 refuses to load, and 0.4 % of Swin-T's time.

The positions are followed as numbers of the form start + sum of stride * (index along an axis),
and counted by the names of open axes, so that this holds for every batch. Rejected: trying two
batch sizes, as `batch_probe` does for shapes; it takes an inference of the whole graph for each,
and arrays of every position. Permutations and parts of the tensor are left as they are: no
exporter was seen to write one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops, names_in
from onnxcam_export.gradient.shapes import constant, int_attribute, is_nameless
from onnxcam_export.lowering import replace

Size = int | str  # a number, or the name of an open axis
_LARGEST = 2**31


@dataclass(frozen=True)
class Positions:
    """Whole numbers `start + sum(strides[a] * index[a])`, the index running over `sizes`.

    The stride along an axis of size 1 is 0.
    """

    start: int
    sizes: tuple[Size, ...]
    strides: tuple[int, ...]

    @classmethod
    def of_array(cls, array: npt.NDArray[Any]) -> Positions | None:
        """An array of whole numbers; None if it is none, empty, or not of this form.

        Numbers that are no positions (negative, or too large to be added up) are not looked at.
        """
        if array.dtype.kind != "i" or array.size == 0:
            return None
        if array.min() < 0 or array.max() >= _LARGEST:
            return None
        start = int(array.flat[0])
        strides, rebuilt = [], np.full(array.shape, start, np.int64)
        for axis, size in enumerate(array.shape):
            second = tuple(int(a == axis) for a in range(array.ndim))
            stride = int(array[second]) - start if size > 1 else 0
            strides.append(stride)
            along = [size if a == axis else 1 for a in range(array.ndim)]
            rebuilt += stride * np.arange(size).reshape(along)
        if not np.array_equal(array, rebuilt):
            return None
        return cls(start, tuple(array.shape), tuple(strides))

    def times(self, array: npt.NDArray[Any]) -> Positions | None:
        """The product with a single number; None for an array of several."""
        if array.size != 1 or array.ndim > len(self.sizes):
            return None
        factor = int(array.item())
        strides = tuple(factor * stride for stride in self.strides)
        return Positions(factor * self.start, self.sizes, strides)

    def plus(self, array: npt.NDArray[Any]) -> Positions | None:
        """The sum with an array, broadcast; None if it is not of this form."""
        other = Positions.of_array(array)
        if other is None:
            return None
        rank = max(len(self.sizes), len(other.sizes))
        sizes: list[Size] = []
        for a, b in zip(self._sizes_of(rank), other._sizes_of(rank), strict=True):
            if a != b and 1 not in (a, b):
                return None
            sizes.append(b if a == 1 else a)
        strides = zip(self._strides_of(rank), other._strides_of(rank), strict=True)
        return Positions(self.start + other.start, tuple(sizes), tuple(a + b for a, b in strides))

    def unsqueezed(self, axes: npt.NDArray[Any]) -> Positions:
        rank = len(self.sizes) + axes.size
        new = {int(axis) % rank for axis in axes.flat}
        sizes, strides = iter(self.sizes), iter(self.strides)
        return Positions(
            self.start,
            tuple(1 if axis in new else next(sizes) for axis in range(rank)),
            tuple(0 if axis in new else next(strides) for axis in range(rank)),
        )

    def _sizes_of(self, rank: int) -> tuple[Size, ...]:
        return (1,) * (rank - len(self.sizes)) + self.sizes

    def _strides_of(self, rank: int) -> tuple[int, ...]:
        return (0,) * (rank - len(self.strides)) + self.strides

    @property
    def in_order(self) -> bool:
        """Whether they are 0, 1, 2, ... whatever number an open axis stands for."""
        expected: int | None = 1
        for size, stride in zip(reversed(self.sizes), reversed(self.strides), strict=True):
            if size == 1:
                continue
            if stride != expected:
                return False
            # an open axis has to be the outermost: what follows one is a stride of unknown size
            expected = expected * size if isinstance(size, int) else None
        return self.start == 0


def reshape_in_place_of_ordered_gathers(graph: ir.Graph, opset: int) -> None:
    """Replace, in place, the Gathers along a flat tensor that leave it as it is.

    What only they read is removed; the tensor that a Gather makes keeps its name.
    """
    op = Ops(names_in(graph), opset, prefix="ordered/")
    for node in list(graph):
        if node.op_type == "Gather" and node.domain in ("", "ai.onnx"):
            found = _find(node)
            if found is None:
                continue
            source, shape = found
            gathered, read = node.outputs[0], list(node.inputs)
            reshaped = op.Reshape(source, op.ints(*shape))
            replace(graph, op, node, [reshaped], opset)
            reshaped.shape = gathered.shape  # which names the open axis
            _remove_unread(graph, read)
    for value in op.initializers.values():
        graph.register_initializer(value)


def _find(node: ir.Node) -> tuple[ir.Value, list[int]] | None:
    """What an ordered Gather reads, before it was made flat, and the shape that it gives it."""
    flat, indices = node.inputs[:2]
    if flat is None or indices is None or int_attribute(node, "axis", 0) not in (0, -1):
        return None
    source = _before_flattening(flat)
    count = None if source is None else _count(_sizes(source))
    if source is None or count is None:
        return None
    positions = positions_of(indices)
    if positions is None or not positions.in_order or _count(positions.sizes) != count:
        return None
    shape = [size if isinstance(size, int) else -1 for size in positions.sizes]
    return (source, shape) if shape.count(-1) <= 1 else None


def _before_flattening(flat: ir.Value) -> ir.Value | None:
    node = flat.producer()
    if node is not None and node.op_type == "Reshape" and node.inputs[1] is not None:
        shape = constant(node.inputs[1])
        if shape is not None and shape.tolist() == [-1]:
            return node.inputs[0]
    return flat if flat.shape is not None and len(flat.shape) == 1 else None


def positions_of(value: ir.Value) -> Positions | None:
    """What a tensor of positions holds, as far as it is made as exporters make them.

    That is of a Range from 0 in steps of 1, and of constants: added, multiplied with one number,
    with axes of size 1 put in.
    """
    steps: list[tuple[str, npt.NDArray[Any]]] = []
    while constant(value) is None:
        node = value.producer()
        if node is None or node.op_type not in ("Add", "Mul", "Unsqueeze") or len(node.inputs) < 2:
            break
        given = [constant(operand) for operand in node.inputs]
        place = 1 if given[1] is not None else 0
        operand, rest = given[place], node.inputs[1 - place]
        if operand is None or rest is None or (node.op_type == "Unsqueeze" and place == 0):
            return None
        steps.append((node.op_type, operand))
        value = rest
    found = _first_positions(value)
    for op_type, operand in reversed(steps):
        if found is None:
            return None
        if op_type == "Unsqueeze":
            found = found.unsqueezed(operand)
        else:
            found = found.plus(operand) if op_type == "Add" else found.times(operand)
    return found


def _first_positions(value: ir.Value) -> Positions | None:
    array = constant(value)
    if array is not None:
        return Positions.of_array(array)
    node = value.producer()
    if node is None or node.op_type != "Range":
        return None
    first, limit, step = node.inputs
    bounds = [constant(first), constant(step)]
    if limit is None or any(b is None or b.dtype.kind != "i" for b in bounds):
        return None
    size = _length(limit)
    if size is None or [int(b.item()) for b in bounds if b is not None] != [0, 1]:
        return None
    return Positions(0, (size,), (1,))


def _length(value: ir.Value) -> Size | None:
    """The axis whose length a number is: one element of a Shape."""
    node = value.producer()
    while node is not None and node.op_type in ("Cast", "Identity", "Squeeze"):
        inner = node.inputs[0]
        node = inner.producer() if inner is not None else None
    index = None
    if node is not None and node.op_type == "Gather":
        array, inner = constant(node.inputs[1]), node.inputs[0]
        index = int(array.item()) if array is not None and array.size == 1 else None
        node = inner.producer() if inner is not None and index is not None else None
    if node is None or node.op_type != "Shape" or node.inputs[0] is None:
        return None
    sizes = _sizes(node.inputs[0])
    if sizes is None:
        return None
    end = int_attribute(node, "end", len(sizes))
    taken = sizes[int_attribute(node, "start", 0) : end]
    if index is not None:
        taken = taken[index : index + 1 or None]
    return taken[0] if len(taken) == 1 else None


def _sizes(value: ir.Value) -> tuple[Size, ...] | None:
    """The shape, if every axis has a number or a name."""
    if value.shape is None:
        return None
    sizes: list[Size] = []
    for size in value.shape:
        if is_nameless(size):
            return None
        sizes.append(size if isinstance(size, int) else str(size.value))
    return tuple(sizes)


def _count(sizes: Sequence[Size] | None) -> tuple[int, list[str]] | None:
    """The number of elements, None if unknown or none: a number, times open axes."""
    if sizes is None or 0 in sizes:
        return None
    fixed = np.prod([size for size in sizes if isinstance(size, int)], dtype=np.int64)
    return int(fixed), sorted(size for size in sizes if isinstance(size, str))


def _remove_unread(graph: ir.Graph, values: Iterable[ir.Value | None]) -> None:
    """Remove the nodes that made these values, if nobody reads them any more, and so on."""
    stack = list(values)
    while stack:
        value = stack.pop()
        node = value.producer() if value is not None else None
        if node is None or node.graph is not graph:
            continue
        if any(v.uses() or v.is_graph_output() for v in node.outputs):
            continue
        stack += node.inputs
        graph.remove(node, safe=True)
