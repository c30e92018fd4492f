"""Grad-CAM: channels weighted by the mean of their gradient."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.normalise import finish
from onnxcam.kernels.pooling import eight_means, mean
from onnxcam.kernels.weighted_sum import add_scaled, start_map


@part
def means(_activation: Any, gradient: Any, c: int, size: int) -> Any:
    """The weights of the channels c to c + 7, as lanes: equation 1 of arXiv 1610.02391."""
    return eight_means(gradient, c, size)


@part
def gradcam_map(activation: Any, gradient: Any, out: Any) -> None:
    """Equations 1 and 2 of arXiv 1610.02391, before the ReLU; float32 [C, P] twice -> [P]."""
    whole = start_map(means, activation, gradient, out)
    for c in range(whole, activation.shape[0]):
        add_scaled(mean(gradient[c]), activation[c], out)


@kernel
def gradcam(activation: Any, gradient: Any, raw: Any, finished: Any, summary: Any) -> None:
    """Grad-CAM of N images for K targets each.

    float32 activation [N, C, P] and gradient [N, K, C, P] -> float32 `raw` [N, K, P], the signed
    maps; `finished` [N, K, P] and float64 `summary` [N, K, 4] as `finish` makes them.
    """
    for n in range(gradient.shape[0]):
        for k in range(gradient.shape[1]):
            gradcam_map(activation[n], gradient[n, k], raw[n, k])
            finish(raw[n, k], finished[n, k], summary[n, k])
