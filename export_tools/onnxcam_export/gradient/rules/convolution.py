"""Convolutions of any dimension, grouped, strided, dilated, padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir

from onnxcam.errors import ExportError, UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.rules.arithmetic import _x, _y
from onnxcam_export.gradient.shapes import (
    dims,
    int_attribute,
    ints_attribute,
    spatial,
    string_attribute,
)


@dataclass(frozen=True)
class Windows:
    """Where the windows of a convolution or a pooling lie along each spatial axis.

    `size` is the input's (None where it is open), `pads_begin` what is added before it.
    """

    size: list[int | None]
    output: list[int | None]
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads_begin: list[int]
    pads_end: list[int]

    @property
    def extent(self) -> list[int]:
        """Pixels from the first to the last tap of a window."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    def overhang(self, axis: int) -> int | None:
        """Pixels by which the last window ends behind the input (negative: pixels never read)."""
        size, output = self.size[axis], self.output[axis]
        if size is None or output is None:
            return None
        last = (output - 1) * self.strides[axis] + self.extent[axis]
        return last - size - self.pads_begin[axis]


def windows_of(node: ir.Node, kernel: list[int]) -> Windows:
    """Read the attributes that Conv and the pools share, auto_pad resolved.

    Raises:
        ExportError: auto_pad=SAME on an input whose size is not fixed.
    """
    x = _x(node)
    size = spatial(x)
    ones = [1] * len(kernel)
    strides = ints_attribute(node, "strides") or ones
    dilations = ints_attribute(node, "dilations") or ones
    pads = ints_attribute(node, "pads") or [0] * (2 * len(kernel))
    begin, end = pads[: len(kernel)], pads[len(kernel) :]
    auto_pad = string_attribute(node, "auto_pad", "NOTSET")
    if auto_pad.startswith("SAME"):
        begin, end = [], []
        for axis, length in enumerate(size):
            if length is None:
                raise ExportError(
                    f"{node.op_type} '{node.name}' pads by auto_pad={auto_pad} and its input has "
                    "no fixed size; fix the model's input size first"
                )
            extent = (kernel[axis] - 1) * dilations[axis] + 1
            total = max((-(-length // strides[axis]) - 1) * strides[axis] + extent - length, 0)
            less = total // 2
            begin.append(less if auto_pad == "SAME_UPPER" else total - less)
            end.append(total - begin[-1])
    elif auto_pad == "VALID":
        begin, end = [0] * len(kernel), [0] * len(kernel)
    return Windows(size, spatial(_y(node)), kernel, strides, dilations, begin, end)


def transposed(
    op: Ops, dy: ir.Value, weight: ir.Value, w: Windows, group: int, x: ir.Value
) -> ir.Value:
    """Spread `dy` back over the windows: the adjoint of Conv, of the input's size."""
    overhang = [w.overhang(axis) for axis in range(len(w.kernel))]
    if None not in overhang:
        known = [o for o in overhang if o is not None]
        dx = op.ConvTranspose(
            dy, weight, group=group, strides=w.strides, dilations=w.dilations,
            kernel_shape=w.kernel, pads=w.pads_begin + [max(o, 0) for o in known],
            output_padding=[max(-o, 0) for o in known],
        )  # fmt: skip
        dx.shape = x.shape  # for the rewrites
        return dx
    # An open input size: make everything the windows can reach, then cut the input out of it.
    whole = op.ConvTranspose(
        dy, weight, group=group, strides=w.strides, dilations=w.dilations,
        kernel_shape=w.kernel, output_padding=[s - 1 for s in w.strides],
    )  # fmt: skip
    axes = list(range(2, 2 + len(w.kernel)))
    start = op.ints(*w.pads_begin)
    size = op.Slice(op.Shape(x), op.ints(2), op.ints(2 + len(w.kernel)))
    return op.Slice(whole, start, op.Add(start, size), op.ints(*axes))


def _weight_grad(
    op: Ops, x: ir.Value, dy: ir.Value, w: Windows, group: int, channels: int | None
) -> ir.Value:
    """The gradient by the weight [O, I/g, *kernel] of y = Conv(x): a Conv of x with dy.

    The batch takes the channels' place (x as [I/g, g N, ...], dy as [O, N, ...]), strides and
    dilations swap. `channels` is I.
    """
    if channels is None or None in w.size or None in w.output:
        raise UnsupportedOpError("a computed weight with an input whose size is not fixed")
    rest, output = [s or 0 for s in w.size], [o or 0 for o in w.output]
    spatial_axes = range(2, 2 + len(rest))
    if group == 1:
        swapped = op.Transpose(x, perm=[1, 0, *spatial_axes])
    else:
        split = op.Reshape(x, op.ints(-1, group, channels // group, *rest))
        moved = op.Transpose(split, perm=[2, 1, 0, *(axis + 1 for axis in spatial_axes)])
        swapped = op.Reshape(moved, op.ints(channels // group, -1, *rest))
    kernel = op.Transpose(dy, perm=[1, 0, *spatial_axes])
    pads_end = [
        (k - 1) * d + (o - 1) * s + 1 - size - begin
        for k, d, o, s, size, begin in zip(
            w.kernel, w.dilations, output, w.strides, rest, w.pads_begin, strict=True
        )
    ]
    if min([*pads_end, *w.pads_begin]) < 0:
        pairs = [0, 0, *w.pads_begin, 0, 0, *pads_end]
        swapped = op.Pad(swapped, op.ints(*pairs), op.const(0.0, x.dtype))
        pads = [0] * (2 * len(rest))
    else:
        pads = [*w.pads_begin, *pads_end]
    grad = op.Conv(
        swapped, kernel, group=group, strides=w.dilations, dilations=w.strides, pads=pads
    )
    return op.Transpose(grad, perm=[1, 0, *spatial_axes])


def _conv(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    x, weight = _x(n, 0), _x(n, 1)
    kernel = [size for size in spatial(weight) if size is not None]
    if len(kernel) != len(spatial(x)):
        raise UnsupportedOpError("the kernel's shape is not known")
    w = windows_of(n, kernel)
    group = int_attribute(n, "group", 1)
    dx = transposed(op, dy, weight, w, group, x)
    bias = None
    if len(n.inputs) > 2 and n.inputs[2] is not None:
        axes = [0, *range(2, len(dims(_y(n))))]
        bias = op.ReduceSum(dy, op.ints(*axes), keepdims=0)
    return [dx, lambda: _weight_grad(op, x, dy, w, group, dims(x)[1]), bias]


def _conv_transpose(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    """The adjoint of ConvTranspose is the Conv with the same weight."""
    x, weight = _x(n, 0), _x(n, 1)
    group = int_attribute(n, "group", 1)
    kernel = [size for size in spatial(weight) if size is not None]
    ones = [1] * len(kernel)
    strides = ints_attribute(n, "strides") or ones
    dilations = ints_attribute(n, "dilations") or ones
    pads = ints_attribute(n, "pads") or [0] * (2 * len(kernel))
    sizes, outputs = spatial(x), spatial(_y(n))
    auto_pad = string_attribute(n, "auto_pad", "NOTSET")
    if None in sizes or None in outputs:
        if auto_pad != "NOTSET" or n.attributes.get("output_shape") is not None:
            raise ExportError(
                f"ConvTranspose '{n.name}': its input has no fixed size; fix it first"
            )
        begin = pads[: len(kernel)]
        # the output_padding's pixels are read by no tap
        end = pads[len(kernel) :]
    else:
        begin, end = [], []
        for axis, (size, output) in enumerate(zip(sizes, outputs, strict=True)):
            assert size is not None and output is not None
            extent = (kernel[axis] - 1) * dilations[axis] + 1
            total = (size - 1) * strides[axis] + extent - output  # pads minus output_padding
            first = pads[axis]
            if n.attributes.get("output_shape") is not None or auto_pad.startswith("SAME"):
                total_pad = max(total, 0)
                first = total_pad // 2 if auto_pad != "SAME_LOWER" else total_pad - total_pad // 2
            begin.append(first)
            end.append(total - first)
    # By the weight: dy in the place of Conv's input, x in that of its output.
    w = Windows(outputs, sizes, kernel, strides, dilations, begin, end)
    by_weight = partial(_weight_grad, op, dy, x, w, group, dims(_y(n))[1])
    bias = op.ReduceSum(dy, op.ints(0, *range(2, 2 + len(kernel))), keepdims=0)
    if min([*begin, *end]) < 0:
        pairs = [0, 0, *begin, 0, 0, *end]
        dy = op.Pad(dy, op.ints(*pairs), op.const(0.0, dy.dtype))
        begin, end = [0] * len(kernel), [0] * len(kernel)
    dx = op.Conv(
        dy, weight, group=group, strides=strides, dilations=dilations,
        kernel_shape=kernel, pads=[*begin, *end],
    )  # fmt: skip
    return [dx, by_weight, bias]


TABLE = {
    ("", "Conv"): _conv,
    ("", "ConvTranspose"): _conv_transpose,
}
