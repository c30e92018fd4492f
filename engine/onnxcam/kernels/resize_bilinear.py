"""Bilinear interpolation with half-pixel centres, as OpenCV's INTER_LINEAR."""

from __future__ import annotations

import math
from typing import Any

from onnxcam.kernels._jit import kernel


@kernel
def resize_map_bilinear(
    source: Any, left: float, top: float, right: float, bottom: float, out: Any
) -> None:
    """Float32 [h, w] into a rectangle of float32 [H, W]; zero outside of it.

    The rectangle is in pixels of `out`; a pixel belongs to it when its centre does.
    """
    h, w = source.shape
    for y in range(out.shape[0]):
        if not top <= y + 0.5 < bottom:
            out[y, :] = 0.0
            continue
        v = (y + 0.5 - top) * h / (bottom - top) - 0.5
        v = min(max(v, 0.0), h - 1.0)
        y0 = int(v)
        y1 = min(y0 + 1, h - 1)
        fy = v - y0
        for x in range(out.shape[1]):
            if not left <= x + 0.5 < right:
                out[y, x] = 0.0
                continue
            u = (x + 0.5 - left) * w / (right - left) - 0.5
            u = min(max(u, 0.0), w - 1.0)
            x0 = int(u)
            x1 = min(x0 + 1, w - 1)
            fx = u - x0
            upper = source[y0, x0] * (1.0 - fx) + source[y0, x1] * fx
            lower = source[y1, x0] * (1.0 - fx) + source[y1, x1] * fx
            out[y, x] = upper * (1.0 - fy) + lower * fy


@kernel
def resize_picture_bilinear(source: Any, out: Any) -> None:
    """Uint8 [h, w, C] to uint8 [H, W, C], without antialiasing, rounded to nearest."""
    h, w = source.shape[0], source.shape[1]
    for y in range(out.shape[0]):
        v = (y + 0.5) * h / out.shape[0] - 0.5
        v = min(max(v, 0.0), h - 1.0)
        y0 = int(v)
        y1 = min(y0 + 1, h - 1)
        fy = v - y0
        for x in range(out.shape[1]):
            u = (x + 0.5) * w / out.shape[1] - 0.5
            u = min(max(u, 0.0), w - 1.0)
            x0 = int(u)
            x1 = min(x0 + 1, w - 1)
            fx = u - x0
            for c in range(source.shape[2]):
                upper = source[y0, x0, c] * (1.0 - fx) + source[y0, x1, c] * fx
                lower = source[y1, x0, c] * (1.0 - fx) + source[y1, x1, c] * fx
                out[y, x, c] = math.floor(upper * (1.0 - fy) + lower * fy + 0.5)
