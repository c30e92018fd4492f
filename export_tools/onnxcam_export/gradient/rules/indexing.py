"""Operators that pick elements by index or put them there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.rules.arithmetic import _x
from onnxcam_export.gradient.rules.layout import place
from onnxcam_export.gradient.rules.sampling import along_axis
from onnxcam_export.gradient.shapes import (
    constant,
    dims,
    int_attribute,
    rank,
    reshape_like,
    scatter_add,
    string_attribute,
    zeros_like,
)


def _gather(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    """With constant indices along one axis: one slice put back, or a 0/1 matrix product."""
    x = _x(n)
    axis = int_attribute(n, "axis", 0) % rank(x)
    length = dims(x)[axis]
    indices = constant(n.inputs[1])
    if indices is None or length is None or dims(x).count(None) > 1:
        return [_gather_at_run_time(op, n, dy, axis), None]
    flat = [int(index) % length for index in np.asarray(indices).reshape(-1)]
    grad = dy
    if indices.ndim == 0:
        grad = op.Unsqueeze(dy, op.ints(axis))
    elif indices.ndim > 1:
        shape = [-1 if size is None else size for size in dims(x)]
        shape[axis] = len(flat)
        grad = op.Reshape(dy, op.ints(*shape))
    if flat == list(range(flat[0], flat[0] + len(flat))):
        taken = range(flat[0], flat[0] + len(flat))
        return [place(op, grad, taken, length, axis, rank(x)), None]
    # dx[j] = sum over k with flat[k] == j of grad[k]
    selection = np.zeros((len(flat), length))
    selection[np.arange(len(flat)), flat] = 1
    return [along_axis(op, grad, selection, axis, rank(x)), None]


def _gather_at_run_time(op: Ops, n: ir.Node, dy: ir.Value, axis: int) -> ir.Value:
    """Indices known only at run time: rows added to zeros, the picked axis brought to the front.

    Single numbers are added by ScatterElements, which OpenVINO 2025 reads (its ScatterND knows no
    reduction) and onnxruntime runs faster, 35 us against 45 for 7680 numbers, one thread of an
    Intel with AMX. Rows are not: it wants an index for every number, and 3136 rows of 96 take it
    1.9 ms, ScatterND 0.2, a product with OneHot's matrix 40.
    """
    x, indices = _x(n), _x(n, 1)
    if rank(x) == 1:
        every = op.ints(-1)
        return scatter_add(
            op, "ScatterElements", x, op.Reshape(indices, every), op.Reshape(dy, every), axis=0
        )
    picked = list(range(axis, axis + rank(indices)))
    others = [a for a in range(rank(x) - 1 + rank(indices)) if a not in picked]
    rows = op.Transpose(dy, perm=[*picked, *others])
    front = [axis, *(a for a in range(rank(x)) if a != axis)]
    first = op.Transpose(x, perm=front)  # for its shape alone, where that is open
    if x.shape is not None:
        first.shape = ir.Shape([x.shape[a] for a in front])
    grad = scatter_add(op, "ScatterND", first, op.Unsqueeze(indices, op.ints(-1)), rows)
    return op.Transpose(grad, perm=[front.index(a) for a in range(rank(x))])


def _gather_elements(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    axis = int_attribute(n, "axis", 0)
    return [scatter_add(op, "ScatterElements", _x(n), _x(n, 1), dy, axis=axis), None]


def _gather_nd(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    x, indices = _x(n), _x(n, 1)
    batch = [size or 0 for size in dims(indices)[: int_attribute(n, "batch_dims", 0)]]
    if batch:
        # ScatterND has no batch dimensions: put the position along them before each index
        if 0 in batch:
            raise UnsupportedOpError("batch_dims over an axis whose size is not fixed")
        grid = np.moveaxis(np.indices(batch), 0, -1)
        grid = grid.reshape(*batch, *[1] * (rank(indices) - len(batch) - 1), len(batch))
        heads = [dims(indices)[a] or 0 for a in range(len(batch), rank(indices) - 1)]
        if 0 in heads:
            raise UnsupportedOpError("batch_dims with indices whose shape is not fixed")
        grid = np.broadcast_to(grid, [*batch, *heads, len(batch)]).astype(np.int64)
        indices = op.Concat(op.const(grid), indices, axis=-1)
    return [scatter_add(op, "ScatterND", x, indices, dy), None]


def _scatter_elements(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    axis = int_attribute(n, "axis", 0)
    reduction = string_attribute(n, "reduction", "none")
    indices, updates = _x(n, 1), _x(n, 2)
    d_updates = op.GatherElements(dy, indices, axis=axis)
    if reduction == "add":
        return [dy, None, d_updates]
    _only(reduction)
    kept = op.ScatterElements(dy, indices, zeros_like(op, updates), axis=axis)
    return [kept, None, d_updates]


def _scatter_nd(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    reduction = string_attribute(n, "reduction", "none")
    indices, updates = _x(n, 1), _x(n, 2)
    d_updates = op.GatherND(dy, indices)
    if reduction == "add":
        return [dy, None, d_updates]
    _only(reduction)
    return [op.ScatterND(dy, indices, zeros_like(op, updates)), None, d_updates]


def _only(reduction: str) -> None:
    if reduction != "none":
        raise UnsupportedOpError(f"reduction '{reduction}' has no derivative here")


def _top_k(op: Ops, n: ir.Node, dy: ir.Value | None, _: ir.Value | None = None) -> Sequence[Grad]:
    """The values go back to where they were found; the indices carry nothing."""
    assert dy is not None
    zeros = zeros_like(op, _x(n))
    axis = int_attribute(n, "axis", -1)
    return [op.ScatterElements(zeros, n.outputs[1], dy, axis=axis), None]


def _max_unpool(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    if len(n.inputs) > 2 and n.inputs[2] is not None:
        raise UnsupportedOpError("output_shape has no derivative here")
    flat = op.Reshape(dy, op.ints(-1))
    return [reshape_like(op, op.Gather(flat, _x(n, 1)), _x(n)), None, None]


def _reverse_sequence(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    """A permutation that is its own inverse."""
    attributes = {name: attribute.value for name, attribute in n.attributes.items()}
    return [op.ReverseSequence(dy, _x(n, 1), **attributes), None]


TABLE = {
    ("", "Gather"): _gather,
    ("", "GatherElements"): _gather_elements,
    ("", "GatherND"): _gather_nd,
    ("", "ScatterElements"): _scatter_elements,
    ("", "ScatterND"): _scatter_nd,
    ("", "TopK"): _top_k,
    ("", "MaxUnpool"): _max_unpool,
    ("", "ReverseSequence"): _reverse_sequence,
}
