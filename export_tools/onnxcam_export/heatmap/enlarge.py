"""A finished map, enlarged to the size of the picture input."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import dims


def enlarge(op: Ops, maps: ir.Value, picture: ir.Value, spatial: Sequence[int]) -> ir.Value:
    """Float32 [N, K, *sides] to [N, K, *sides of the picture], linear along every axis.

    Half-pixel centres, edges repeated, as the engine and OpenCV enlarge. What is enlarged may
    nowhere be 1: the peak lies between its pixels.

    Args:
        op: collects the emitted nodes.
        maps: one to three spatial axes.
        picture: the picture input.
        spatial: its spatial axes, as many.
    """
    fixed = [size for axis in spatial if (size := dims(picture)[axis]) is not None]
    if len(fixed) == len(spatial):
        sides = op.ints(*fixed)
    else:
        sides = op.Gather(op.Shape(picture), op.ints(*spatial))
    sizes = op.Concat(op.Shape(maps, start=0, end=2), sides, axis=0)
    return op.Resize(maps, None, None, sizes, mode="linear")  # half_pixel is the default
