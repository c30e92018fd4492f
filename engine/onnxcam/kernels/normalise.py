"""From a signed map to [0, 1]."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._jit import kernel


@kernel
def relu_normalise(raw: Any, out: Any) -> None:
    """ReLU, then divided by the maximum, without epsilon; float32 [P] -> [P], finite values.

    A map without positive values becomes zero everywhere.
    """
    highest = raw[0]
    for p in range(raw.shape[0]):
        if raw[p] > highest:
            highest = raw[p]
    for p in range(raw.shape[0]):
        out[p] = raw[p] / highest if raw[p] > 0.0 else 0.0
