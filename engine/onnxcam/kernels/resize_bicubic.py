"""Bicubic interpolation (Keys, a = -0.75) with half-pixel centres, as OpenCV's INTER_CUBIC."""

from __future__ import annotations

import math
from typing import Any

from onnxcam.kernels._jit import kernel

A = -0.75


@kernel
def cubic(t: float) -> float:
    """Keys' kernel (1981, equation 4 with free a) at distance t."""
    t = abs(t)
    if t <= 1.0:
        return ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0
    if t < 2.0:
        return ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A
    return 0.0


@kernel
def resize_map_bicubic(
    source: Any, left: float, top: float, right: float, bottom: float, out: Any
) -> None:
    """Float32 [h, w] into a rectangle of float32 [H, W]; zero outside, edges repeated."""
    h, w = source.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            if not (top <= y + 0.5 < bottom and left <= x + 0.5 < right):
                out[y, x] = 0.0
                continue
            v = (y + 0.5 - top) * h / (bottom - top) - 0.5
            u = (x + 0.5 - left) * w / (right - left) - 0.5
            y0 = math.floor(v)
            x0 = math.floor(u)
            total = 0.0
            for j in range(y0 - 1, y0 + 3):
                row = 0.0
                for i in range(x0 - 1, x0 + 3):
                    row += cubic(u - i) * source[min(max(j, 0), h - 1), min(max(i, 0), w - 1)]
                total += cubic(v - j) * row
            out[y, x] = total


@kernel
def resize_picture_bicubic(source: Any, out: Any) -> None:
    """Uint8 [h, w, C] to uint8 [H, W, C], without antialiasing, rounded and clipped."""
    h, w = source.shape[0], source.shape[1]
    for y in range(out.shape[0]):
        v = (y + 0.5) * h / out.shape[0] - 0.5
        y0 = math.floor(v)
        for x in range(out.shape[1]):
            u = (x + 0.5) * w / out.shape[1] - 0.5
            x0 = math.floor(u)
            for c in range(source.shape[2]):
                total = 0.0
                for j in range(y0 - 1, y0 + 3):
                    row = 0.0
                    for i in range(x0 - 1, x0 + 3):
                        value = source[min(max(j, 0), h - 1), min(max(i, 0), w - 1), c]
                        row += cubic(u - i) * value
                    total += cubic(v - j) * row
                out[y, x, c] = math.floor(min(max(total, 0.0), 255.0) + 0.5)
