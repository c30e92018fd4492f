"""Two pictures in one."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._jit import kernel


@kernel
def blend(picture: Any, heat: Any, alpha: float, out: Any) -> None:
    """``(1 - alpha) * picture + alpha * heat``, rounded; uint8 [H, W, 3] all, 0 <= alpha <= 1."""
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            for c in range(3):
                out[y, x, c] = int((1.0 - alpha) * picture[y, x, c] + alpha * heat[y, x, c] + 0.5)
