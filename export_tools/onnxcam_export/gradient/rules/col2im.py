"""Col2Im: overlapping blocks added up into a picture (torch.nn.Fold)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.shapes import constant_ints, ints_attribute


def _col2im(op: Ops, n: ir.Node, dy: ir.Value) -> Sequence[Grad]:
    """[N, C, *picture] to [N, C K, L]: each of the K elements of L blocks is one pixel of dy.

    The blocks may reach into the padding, whose pixels are left out of y: zeros here.
    """
    picture, block = constant_ints(n, 1) or [], constant_ints(n, 2) or []
    axes = len(picture)
    pads = ints_attribute(n, "pads") or [0] * (2 * axes)
    if min(pads) < 0:
        raise UnsupportedOpError("negative pads have no derivative here")
    pixels = _pixels_of_blocks(
        [size + pads[axis] + pads[axis + axes] for axis, size in enumerate(picture)],
        block,
        ints_attribute(n, "strides") or [1] * axes,
        ints_attribute(n, "dilations") or [1] * axes,
    )
    if any(pads):
        pairs = [0, 0, *pads[:axes], 0, 0, *pads[axes:]]
        dy = op.Pad(dy, op.ints(*pairs), op.const(0.0, dy.dtype))
    taken = op.Gather(op.Reshape(dy, op.ints(0, 0, -1)), op.const(pixels), axis=2)
    return [op.Reshape(taken, op.ints(0, -1, pixels.shape[1])), None, None]


def _pixels_of_blocks(
    picture: list[int], block: list[int], strides: list[int], dilations: list[int]
) -> npt.NDArray[np.int64]:
    """The flat index [K, L] of each block's elements in the padded picture, row-major all."""
    index = np.zeros((1, 1), np.int64)
    for size, length, stride, dilation in zip(picture, block, strides, dilations, strict=True):
        starts = np.arange(0, size - (length - 1) * dilation, stride)
        along = np.arange(length)[:, None] * dilation + starts
        index = (index[:, None, :, None] * size + along[:, None]).reshape(
            index.shape[0] * length, index.shape[1] * len(starts)
        )
    return index


TABLE = {("", "Col2Im"): _col2im}
