"""Methods without pooling: every position has its own weight."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._jit import kernel


@kernel
def hirescam(activation: Any, gradient: Any, out: Any) -> None:
    """``sum_c g A`` of arXiv 2011.08891; float32 [C, P] twice -> [P]."""
    out[:] = 0.0
    for c in range(activation.shape[0]):
        for p in range(activation.shape[1]):
            out[p] += float(gradient[c, p]) * activation[c, p]


@kernel
def layercam(activation: Any, gradient: Any, out: Any) -> None:
    """``sum_c relu(g) A``, LayerCAM (doi 10.1109/TIP.2021.3089943), before the ReLU."""
    out[:] = 0.0
    for c in range(activation.shape[0]):
        for p in range(activation.shape[1]):
            g = float(gradient[c, p])
            if not g <= 0.0:  # true for NaN as well, which must reach the map
                out[p] += g * activation[c, p]


@kernel
def gradcam_elementwise(activation: Any, gradient: Any, out: Any) -> None:
    """``sum_c relu(g A)``, GradCAMElementWise of pytorch-grad-cam."""
    out[:] = 0.0
    for c in range(activation.shape[0]):
        for p in range(activation.shape[1]):
            product = float(gradient[c, p]) * activation[c, p]
            if not product <= 0.0:  # true for NaN as well, which must reach the map
                out[p] += product
