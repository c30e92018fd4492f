"""Colours for values."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._jit import kernel


@kernel
def colorize(values: Any, table: Any, out: Any) -> None:
    """Float32 [H, W], uint8 [256, 3] -> uint8 [H, W, 3]; values are clipped to [0, 1].

    The index is ``255 * value`` without its fraction, as ``np.uint8(255 * value)``.
    """
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            index = int(min(max(values[y, x], 0.0), 1.0) * 255.0)
            for c in range(3):
                out[y, x, c] = table[index, c]
