"""Scores other than a class: numbers made of an output, as `[N, C]`, ready to be chosen from.

| score of | output | `cam_score` | further input |
|---|---|---|---|
| `class` | `[N, C]`, `[N]` | (the output itself) | |
| `element` | fixed shape `[N, ...]` | all its numbers, in their order | |
| `region` | `[N, C, H, W]` | the channels' means where `cam_mask` is | `cam_mask` `[N, H, W]` |
| `dot` | `[N, D]` | the dot product with a vector, `[N, 1]` | `cam_vector` `[N, D]` |
| `cosine` | `[N, D]` | the cosine of the angle to a vector, `[N, 1]` | `cam_vector` `[N, D]` |

A region's output may have its channels last. `cam_mask` weights the pixels (0 and 1, or anything
between); `element` is one class's score of one box of a detector (`box * classes + class`), one
pixel of a segmentation, one of several regressed numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxcam.contract import MASK, VECTOR
from onnxcam.errors import ExportError
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import dims

# The scores [N, C] and the graph inputs they need.
Emitted = tuple[ir.Value, list[ir.Value]]
Batch = int | ir.SymbolicDim


@dataclass(frozen=True)
class NewScore:
    """How to count the scores that an output gives, and how to emit them.

    Attributes:
        count: C, of the output and its channel axis (None: unknown); raises ExportError where
            the output does not fit.
        emit: emits them; takes the output (or what a final activation reads), C, the batch
            dimension, and the channel axis.
    """

    count: Callable[[ir.Value, int | None], int]
    emit: Callable[[Ops, ir.Value, int, Batch, int], Emitted]


def _count_elements(output: ir.Value, axis: int | None) -> int:
    sizes = dims(output)[1:]
    if not sizes or None in sizes:
        raise _unfit("element", output, "an output whose sizes behind the batch are fixed")
    return math.prod(size for size in sizes if size is not None)


def _elements(op: Ops, value: ir.Value, classes: int, batch: Batch, axis: int) -> Emitted:
    return _shaped(op.Reshape(value, op.ints(-1, classes)), [batch, classes]), []


def _count_channels(output: ir.Value, axis: int | None) -> int:
    sizes = dims(output)
    if len(sizes) != 4 or axis is None or sizes[axis] is None:
        raise _unfit("region", output, "[N, C, H, W] or [N, H, W, C], as the graph must tell")
    return sizes[axis] or 0


def _region(op: Ops, value: ir.Value, classes: int, batch: Batch, axis: int) -> Emitted:
    """sum(mask * value) / sum(mask), per image and channel."""
    assert value.shape is not None
    spatial = [i for i in (1, 2, 3) if i != axis]
    sides = [value.shape[i] for i in spatial]
    mask = _input(MASK, [batch, *sides])
    sides.insert(axis - 1, 1)
    weights = _like(op, _shaped(op.Unsqueeze(mask, op.ints(axis)), [batch, *sides]), value)
    pixels = op.ints(*spatial)
    weighted = _shaped(op.Mul(value, weights), list(value.shape))
    total = _shaped(op.ReduceSum(weighted, pixels, keepdims=0), [batch, classes])
    area = _shaped(op.ReduceSum(weights, pixels, keepdims=0), [batch, 1])
    return _shaped(op.Div(total, area), [batch, classes]), [mask]


def _count_one(output: ir.Value, axis: int | None) -> int:
    sizes = dims(output)[1:]
    if not sizes or None in sizes or sum(size != 1 for size in sizes) > 1:
        raise _unfit("dot and cosine", output, "one vector an image, [N, D]")
    return 1


def _dot(op: Ops, value: ir.Value, classes: int, batch: Batch, axis: int) -> Emitted:
    flat, vector, other = _vectors(op, value, batch)
    return _inner(op, flat, other, batch), [vector]


def _cosine(op: Ops, value: ir.Value, classes: int, batch: Batch, axis: int) -> Emitted:
    flat, vector, other = _vectors(op, value, batch)
    squares = [_inner(op, v, v, batch) for v in (flat, other)]
    lengths = [_shaped(op.Sqrt(square), [batch, 1]) for square in squares]
    both = _shaped(op.Mul(*lengths), [batch, 1])
    return _shaped(op.Div(_inner(op, flat, other, batch), both), [batch, 1]), [vector]


def _vectors(op: Ops, value: ir.Value, batch: Batch) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The output as [N, D], the input `cam_vector`, and it in the output's dtype."""
    size = math.prod(side for side in dims(value)[1:] if side is not None)
    flat = _shaped(op.Reshape(value, op.ints(-1, size)), [batch, size])
    vector = _input(VECTOR, [batch, size])
    return flat, vector, _like(op, vector, value)


def _inner(op: Ops, a: ir.Value, b: ir.Value, batch: Batch) -> ir.Value:
    assert a.shape is not None
    product = _shaped(op.Mul(a, b), list(a.shape))
    return _shaped(op.ReduceSum(product, op.ints(1), keepdims=1), [batch, 1])


def _like(op: Ops, value: ir.Value, like: ir.Value) -> ir.Value:
    if value.dtype == like.dtype:
        return value
    assert value.shape is not None
    return _shaped(op.Cast(value, to=like.dtype), list(value.shape))


def _input(name: str, shape: Sequence[int | ir.SymbolicDim]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def _shaped(value: ir.Value, shape: Sequence[int | ir.SymbolicDim]) -> ir.Value:
    """Rules read shapes, which emitted values do not have of themselves."""
    value.shape = ir.Shape(shape)
    return value


def _unfit(what: str, output: ir.Value, expected: str) -> ExportError:
    shown = ["?" if size is None else size for size in dims(output)]
    return ExportError(
        f"score of {what}: expected {expected}; output '{output.name}' has shape {shown}"
    )


NEW_SCORES = {
    "element": NewScore(_count_elements, _elements),
    "region": NewScore(_count_channels, _region),
    "dot": NewScore(_count_one, _dot),
    "cosine": NewScore(_count_one, _cosine),
}
SCORES_OF = ("class", *NEW_SCORES)
