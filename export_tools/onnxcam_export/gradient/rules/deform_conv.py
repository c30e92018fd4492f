"""Convolutions whose taps are moved by computed offsets (arXiv 1703.06211, 1811.11168).

Each tap reads the picture between four pixels, zeros beyond the border, as GridSample does; what
it reads times its mask goes through the weights like a patch of a plain convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.rules.arithmetic import _x, _y
from onnxcam_export.gradient.rules.grid_sample import Length, length_of, weighted_pixels
from onnxcam_export.gradient.rules.through import through
from onnxcam_export.gradient.shapes import dims, int_attribute, ints_attribute, is_half, spatial


def _convolved(op: Ops, n: ir.Node) -> Sequence[ir.Value]:
    """y as Gather, Mul and MatMul; G offset groups, K taps of a window, P windows."""
    x, weight = _x(n), _x(n, 1)
    channels, outputs = dims(x)[1], spatial(_y(n))
    taps = [size or 0 for size in spatial(weight)]
    if len(taps) != 2 or 0 in taps or channels is None or None in outputs:
        raise UnsupportedOpError("it is derived for two axes and fixed sizes behind the batch")
    groups, kernel = int_attribute(n, "offset_group", 1), int(np.prod(taps))
    windows = int(np.prod([size or 0 for size in outputs]))
    # One picture for each offset group: [N G, C / G, h, w] and positions [N G, K P] along an axis.
    pictures = op.Reshape(x, op.ints(-1, channels // groups, *_sizes(x)))
    pictures.shape = ir.Shape([None, channels // groups, *spatial(x)])
    offset = _x(n, 2)
    offset = op.Cast(offset, to=ir.DataType.FLOAT) if is_half(offset) else offset
    offset = op.Reshape(offset, op.ints(-1, kernel, 2, windows))
    indices, weights = [], []
    for axis in range(2):
        moved = op.Gather(offset, op.const(np.array(axis)), axis=2)
        rest = op.const(_rest(n, taps, outputs, axis), offset.dtype)
        place = op.Reshape(op.Add(moved, rest), op.ints(0, -1))
        index, share = _between(op, place, length_of(op, x, axis + 2))
        indices.append(index)
        weights.append(share)
    patches = weighted_pixels(op, pictures, indices, weights)  # [N G, K P, C / G]
    if len(n.inputs) > 4 and n.inputs[4] is not None:
        patches = op.Mul(patches, op.Reshape(_x(n, 4), op.ints(-1, kernel * windows, 1)))
    parts = op.Reshape(patches, op.ints(-1, kernel, windows, channels // groups))
    columns = op.Transpose(parts, perm=[0, 3, 1, 2])  # [N G, C / G, K, P]
    group = int_attribute(n, "group", 1)
    columns = op.Reshape(columns, op.ints(-1, group, channels // group * kernel, windows))
    rows = op.Reshape(weight, op.ints(group, -1, channels // group * kernel))
    y = op.Reshape(op.MatMul(rows, columns), op.ints(-1, dims(weight)[0] or 0, *_sizes(_y(n))))
    if len(n.inputs) > 3 and n.inputs[3] is not None:
        y = op.Add(y, op.Reshape(_x(n, 3), op.ints(-1, 1, 1)))
    return [y]


def _sizes(value: ir.Value) -> list[int]:
    return [size or 0 for size in spatial(value)]


def _rest(
    n: ir.Node, taps: list[int], outputs: list[int | None], axis: int
) -> npt.NDArray[np.int64]:
    """Where each tap of each window reads along an axis as long as nothing moves it, [K, P]."""
    strides = ints_attribute(n, "strides") or [1, 1]
    dilations = ints_attribute(n, "dilations") or [1, 1]
    pads = ints_attribute(n, "pads") or [0] * 4
    tap = np.indices(taps)[axis].reshape(-1, 1) * dilations[axis]
    window = np.indices([size or 0 for size in outputs])[axis].reshape(1, -1) * strides[axis]
    place: npt.NDArray[np.int64] = tap + window - pads[axis]
    return place


def _between(op: Ops, place: ir.Value, length: Length) -> tuple[ir.Value, ir.Value]:
    """Indices and weights [N G, K P, 2] of the pixels on both sides; weight 0 beyond the border."""
    place = op.Unsqueeze(place, op.ints(2))
    # By way of an integer, through which nothing flows: Floor's derivative is 0 anyway.
    start = op.Cast(op.Cast(op.Floor(place), to=ir.DataType.INT64), to=place.dtype)
    ahead = op.Sub(place, start)
    pixel = op.Add(start, np.array([0, 1]))
    size = length if isinstance(length, int) else op.Cast(length, to=place.dtype)
    last = op.Sub(size, 1.0) if isinstance(size, ir.Value) else float(size - 1)
    index = op.Clip(pixel, 0.0, last)
    weight = op.Concat(op.Sub(1.0, ahead), ahead, axis=2)
    return op.Cast(index, to=ir.DataType.INT64), op.Where(op.Equal(index, pixel), weight, 0.0)


TABLE = {("", "DeformConv"): through(_convolved)}
