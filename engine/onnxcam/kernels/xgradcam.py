"""XGrad-CAM: channels weighted by the mean of their gradient, itself weighted by activation."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._jit import kernel
from onnxcam.kernels.weighted_sum import add_scaled


@kernel
def xgradcam(activation: Any, gradient: Any, out: Any) -> None:
    """``sum_c w_c A`` with ``w_c = sum_p(g A) / sum_p(A)``; float32 [C, P] twice -> [P].

    The weights of arXiv 2008.02312, before the ReLU.

    A channel whose activation sums to zero has no weight: after a ReLU it is zero everywhere.
    """
    out[:] = 0.0
    for c in range(activation.shape[0]):
        total = 0.0
        product = 0.0
        for p in range(activation.shape[1]):
            total += float(activation[c, p])
            product += float(activation[c, p]) * gradient[c, p]
        if total != 0.0:
            add_scaled(product / total, activation[c], out)
