"""Einsum: the gradient by an operand is an Einsum of dy and the other operands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.rules.arithmetic import _x
from onnxcam_export.gradient.shapes import dims, expand_like, rank, string_attribute, sum_to

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _einsum(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    operands, result = explicit(
        string_attribute(n, "equation", ""), [rank(_x(n, i)) for i in range(len(n.inputs))]
    )
    for labels in operands:
        if len(set(labels)) != len(labels):
            raise UnsupportedOpError("an index that is repeated in one operand (a diagonal)")
    return [partial(_by_operand, op, n, dy, i, operands, result) for i in range(len(operands))]


def explicit(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The labels of operands and result, ellipses written as letters and the result spelled out.

    Broadcast dimensions are aligned at the right, as numpy.einsum has them.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    free = [letter for letter in _LETTERS if letter not in equation]
    hidden = [
        count - len(t.replace("...", "")) if "..." in t else 0
        for t, count in zip(terms, ranks, strict=True)
    ]
    dots = "".join(free[: max(hidden)])
    operands = [
        term.replace("...", dots[len(dots) - count :])
        for term, count in zip(terms, hidden, strict=True)
    ]
    if arrow:
        return operands, right.replace("...", dots)
    letters = sorted(set("".join(terms)) - {"."})
    once = [c for c in letters if sum(t.count(c) for t in terms) == 1]
    return operands, dots + "".join(once)


def _by_operand(
    op: Ops, n: ir.Node, dy: ir.Value, position: int, operands: list[str], result: str
) -> ir.Value:
    x = _x(n, position)
    others = [i for i in range(len(operands)) if i != position]
    available = set(result).union(*(operands[i] for i in others))
    labels = operands[position]
    present = "".join(label for label in labels if label in available)
    terms = ",".join([result, *(operands[i] for i in others)])
    grad = op.Einsum(dy, *[_x(n, i) for i in others], equation=f"{terms}->{present}")
    missing = [axis for axis, label in enumerate(labels) if label not in available]
    if missing:  # summed over by the forward alone: the same for each element
        grad = expand_like(op, op.Unsqueeze(grad, op.ints(*missing)), x)
    return sum_to(op, grad, [_size(n, operands, label) for label in labels], x)


def _size(n: ir.Node, operands: list[str], label: str) -> int | None:
    """The size of an index: 1 in one operand is broadcast to the size in another."""
    sizes = {
        dims(_x(n, i))[labels.index(label)] for i, labels in enumerate(operands) if label in labels
    }
    return next((size for size in sizes if size != 1), 1)


TABLE = {("", "Einsum"): _einsum}
