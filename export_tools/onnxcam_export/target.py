"""From `cam_target` to the seed of the gradient, checked in the graph.

Whatever is no class must end in an error or in NaN, never in a wrong map: plain Gather wraps
-2, OneHot returns zeros, and a vector of the wrong length would be broadcast. So

- the target is reshaped to the batch's length, which fails for any other length;
- -1 becomes the class with the highest output, the first one in a tie;
- what is not in 0..C-1 becomes C, which the CPU's Gather refuses; for providers that do not
  check, the gradient is NaN there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxcam.contract import HIGHEST_SCORE, TARGET
from onnxcam.errors import ExportError
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import dims, reshape_like

# Of more classes (the elements of a detector's output) the file holds no tables of their length:
# two million of them would be 25 MB.
STORED = 10_000


@dataclass(frozen=True)
class Target:
    """The class of each image.

    Attributes:
        index: int64 [N], 0..C-1, or C for what is no class.
        in_range: bool [N].
        classes: C.
    """

    index: ir.Value
    in_range: ir.Value
    classes: int


def resolve_targets(
    op: Ops,
    output: ir.Value,
    classes: int,
    batch: int | ir.SymbolicDim,
    with_input: bool = True,
    per_image: int | None = None,
) -> tuple[ir.Value | None, list[Target]]:
    """Emit the choice of the class or classes of each image.

    Args:
        op: collects the emitted nodes.
        output: the model's output, one value per class.
        classes: C.
        batch: the batch dimension of the picture input.
        with_input: whether there is an input `cam_target`; else always the highest output.
        per_image: K for an input [N, K]; None for [N].

    Returns:
        The new graph input `cam_target`, or None when it is left out, and K targets (or one).

    Raises:
        ExportError: several targets without an input for them.
    """
    scores = output if len(dims(output)) == 2 else op.Reshape(output, op.ints(-1, classes))
    if scores.dtype != ir.DataType.FLOAT:
        scores = op.Cast(scores, to=ir.DataType.FLOAT)  # ArgMax on float16 is not on every CPU
    highest = op.ArgMax(scores, axis=1, keepdims=0)
    if not with_input:
        if per_image is not None:
            raise ExportError("targets: several of them need the input cam_target")
        in_range = op.Less(highest, op.ints(classes))  # no NaN comes this far as a class
        return None, [Target(highest, in_range, classes)]
    sides = [batch] if per_image is None else [batch, per_image]
    target = ir.Value(name=TARGET, shape=ir.Shape(sides), type=ir.TensorType(ir.DataType.INT64))
    # Runtimes check the width, which is fixed. The length is checked column by column: of a shape
    # put together by Concat onnxruntime makes [-1, K], and a short target would be broadcast.
    length = op.ints(batch) if isinstance(batch, int) else op.Shape(highest)
    columns = (
        [target]
        if per_image is None
        else [op.Gather(target, op.const(k), axis=1) for k in range(per_image)]
    )
    return target, [
        _checked(op, op.Reshape(column, length), highest, classes) for column in columns
    ]


def _checked(op: Ops, given: ir.Value, highest: ir.Value, classes: int) -> Target:
    """-1 as the highest class, anything that is none as C."""
    chosen = op.Where(op.Equal(given, HIGHEST_SCORE), highest, given)
    in_range = op.And(op.GreaterOrEqual(chosen, 0), op.Less(chosen, classes))
    return Target(op.Where(in_range, chosen, classes), in_range, classes)


def one_hot_seed(op: Ops, target: Target, score: ir.Value) -> ir.Value:
    """1 at each image's class, 0 elsewhere, with the shape and dtype of `score`."""
    column, count = op.ints(1), target.classes
    if count <= STORED:
        ones = op.const(np.ones(count), score.dtype)
        classes = op.const(np.arange(count)[None], ir.DataType.INT64)
    else:
        ones = op.Expand(op.const(1.0, score.dtype), op.ints(count))
        classes = op.Unsqueeze(op.Range(0, op.const(count), 1), op.ints(0))
    checked = nan_where_out_of_range(op, target, op.Gather(ones, target.index), axes=0)
    hit = op.Equal(op.Unsqueeze(target.index, column), classes)
    seed = op.Where(hit, op.Unsqueeze(checked, column), 0.0)
    return seed if len(dims(score)) == 2 else reshape_like(op, seed, score)


def nan_where_out_of_range(op: Ops, target: Target, value: ir.Value, axes: int) -> ir.Value:
    """`value` ([N] and `axes` more) with NaN for images whose target is no class."""
    keep = target.in_range
    if axes:
        keep = op.Unsqueeze(keep, op.ints(*range(1, 1 + axes)))
    return op.Where(keep, value, np.nan)
