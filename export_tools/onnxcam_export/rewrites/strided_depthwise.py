"""A depthwise ConvTranspose of stride 2 is a depthwise Conv over pixels with zeros between them.

onnxruntime's CPU ConvTranspose does a matrix product for each channel, of one row when it is
depthwise, and scatters; its depthwise Conv is written for the purpose and wins although it meets
four times the pixels. Best of 60, one thread of an AMD Zen 3, onnxruntime 1.32, microseconds, with
what the Conv's blocked layout costs:

    channels, kernel, side         ConvTranspose   Resize, Mul, Conv   Concat twice, Conv
    576, 3x3, 7 to 14                        274                 161                  157
    192, 3x3, 14 to 28                       233                 171                  176
    96, 3x3, 56 to 112                      1671                1156                 1391
    672, 5x5, 7 to 14                        651                 306                  304
    144, 5x5, 28 to 56                      1387                 697                  751

Rejected: Pad in place of Concat (597 for the first row), a Conv for each of the four phases and
DepthToSpace (361, of which DepthToSpace 252).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import constant, dims, int_attribute, ints_attribute
from onnxcam_export.rewrites.stride_one_conv import flipped
from onnxcam_export.target import Target


def strided_depthwise(op: Ops, target: Target, seed: ir.Value) -> None:
    """Replace depthwise ConvTransposes of stride 2 with constant weights by Convs."""
    del target, seed
    for node in list(op.nodes):
        if node.op_type == "ConvTranspose" and (found := _conv_over_zeros(node)) is not None:
            op.replace(node, partial(_conv, op, node, *found))


def _conv_over_zeros(node: ir.Node) -> tuple[list[int], list[int]] | None:
    """Sides of the input with the zeros in it and pads of the Conv, or None where none fits."""
    weight, output = node.inputs[1], node.outputs[0]
    if weight is None or constant(weight) is None or output.shape is None:
        return None
    channels, per_group, *kernel = [size or 0 for size in dims(weight)]
    depthwise = per_group == 1 and channels == int_attribute(node, "group", 1)
    if not depthwise or ints_attribute(node, "strides") != [2, 2]:
        return None
    sides: list[int] = []
    pads_begin: list[int] = []
    pads_end: list[int] = []
    pads = ints_attribute(node, "pads") or [0] * 4
    extra = ints_attribute(node, "output_padding") or [0, 0]
    dilations = ints_attribute(node, "dilations") or [1, 1]
    for axis, size in enumerate(dims(output)[2:]):
        if size is None:
            return None
        reach = (kernel[axis] - 1) * dilations[axis]
        side = size - 1 - reach + pads[axis] + pads[axis + 2] - extra[axis] + 2
        sides.append(side)
        pads_begin.append(reach - pads[axis])
        pads_end.append(size - side - pads_begin[-1] + reach)
    if min(*pads_begin, *pads_end) < 0:
        return None
    return sides, [*pads_begin, *pads_end]


def _conv(op: Ops, node: ir.Node, sides: list[int], pads: list[int]) -> ir.Value:
    dy, weight = node.inputs[0], node.inputs[1]
    assert dy is not None
    assert weight is not None
    repeated = op.Resize(
        dy, None, op.const(np.array([1, 1, 2, 2], np.float32)),
        mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    first = np.zeros((1, 1, *sides))
    first[..., ::2, ::2] = 1  # one pixel of each two by two stays
    group = int_attribute(node, "group", 1)
    return op.Conv(
        op.Mul(repeated, first), flipped(op, weight, group), group=group, pads=pads,
        dilations=ints_attribute(node, "dilations"), kernel_shape=dims(weight)[2:],
    )  # fmt: skip
