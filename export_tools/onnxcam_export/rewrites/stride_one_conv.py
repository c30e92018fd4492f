"""A ConvTranspose of stride 1 is a Conv with the flipped kernel, and onnxruntime's Conv is faster.

onnxruntime's CPU ConvTranspose is a matrix product and a scatter, and does not know the blocked
layout or depthwise kernels of its Conv. Best of 25, 2 threads, milliseconds:

    channels, kernel, side          ConvTranspose   Conv
    512 depthwise, 3x3, 14                   0.32   0.07
    576 depthwise, 5x5, 14                   0.76   0.11
    512 to 512, 3x3, 7                       7.75   2.44
    128 to 128, 3x3, 28                      2.42   1.17
    1024 to 256, 1x1, 14                     1.76   1.03
    512 to 128, 1x1, 28                      1.01   0.99

For stride 2 it would be a Conv of an input with zeros between its pixels, four times the work:
6.9 against 2.5 ms for 256 channels at 14x14; left alone, but for depthwise ones
(:mod:`onnxcam_export.rewrites.strided_depthwise`).

The flipped weights are written as operators on the original ones, which onnxruntime folds when it
loads the file: the file does not grow (storing them would double the head's convolutions).
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import (
    constant,
    dims,
    int_attribute,
    ints_attribute,
    reversed_along,
)
from onnxcam_export.target import Target


def stride_one_conv(op: Ops, target: Target, seed: ir.Value) -> None:
    """Replace ConvTransposes of stride 1 with constant weights by Convs."""
    del target, seed
    for node in list(op.nodes):
        if node.op_type == "ConvTranspose" and (pads := _conv_pads(node)) is not None:
            op.replace(node, partial(_conv, op, node, pads))


def _conv_pads(node: ir.Node) -> list[int] | None:
    """The pads of the Conv that does the same, or None where none does."""
    weight = node.inputs[1]
    if constant(weight) is None or weight is None:
        return None
    kernel = [size or 0 for size in dims(weight)[2:]]
    ones = [1] * len(kernel)
    strides = ints_attribute(node, "strides") or ones
    if any(s != 1 for s in strides) or any(ints_attribute(node, "output_padding") or []):
        return None
    dilations = ints_attribute(node, "dilations") or ones
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    cut = ints_attribute(node, "pads") or [0] * (2 * len(kernel))
    pads = [r - c for r, c in zip([*reach, *reach], cut, strict=True)]
    return pads if min(pads) >= 0 else None


def _conv(op: Ops, node: ir.Node, pads: list[int]) -> ir.Value:
    weight = node.inputs[1]
    assert weight is not None
    group = int_attribute(node, "group", 1)
    return op.Conv(
        node.inputs[0], flipped(op, weight, group), group=group, pads=pads,
        dilations=ints_attribute(node, "dilations"), kernel_shape=dims(weight)[2:],
    )  # fmt: skip


def flipped(op: Ops, weight: ir.Value, group: int) -> ir.Value:
    """Weights [M, C / group, *kernel] as [C, M / group, *kernel], every kernel reversed."""
    sizes = [size or 0 for size in dims(weight)]
    rank, m, c, kernel = len(sizes), sizes[0], sizes[1], sizes[2:]
    value = weight
    if group == 1:
        value = op.Transpose(value, perm=[1, 0, *range(2, rank)])
    else:
        # [group, M / group, C / group, *kernel] with the two middle axes exchanged
        split = op.Reshape(value, op.ints(group, m // group, c, *kernel))
        swapped = op.Transpose(split, perm=[0, 2, 1, *range(3, rank + 1)])
        value = op.Reshape(swapped, op.ints(group * c, m // group, *kernel))
    axes = [axis for axis in range(2, rank) if sizes[axis] > 1]
    return reversed_along(op, value, axes) if axes else value
