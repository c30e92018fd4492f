"""Grad-CAM: channels weighted by the mean of their gradient."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._jit import kernel
from onnxcam.kernels.pooling import mean
from onnxcam.kernels.weighted_sum import add_scaled


@kernel
def gradcam(activation: Any, gradient: Any, out: Any) -> None:
    """Equations 1 and 2 of arXiv 1610.02391, before the ReLU; float32 [C, P] twice -> [P]."""
    out[:] = 0.0
    for c in range(activation.shape[0]):
        add_scaled(mean(gradient[c]), activation[c], out)
