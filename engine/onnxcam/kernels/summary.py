"""What a signed map holds, in four numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.kernels._jit import kernel


@kernel
def summarise(raw: Any, out: Any) -> None:
    """Float32 [P] -> float64 [4]: minimum, maximum (of finite values), positives, non-finites."""
    lowest = np.inf
    highest = -np.inf
    positives = 0
    non_finites = 0
    for p in range(raw.shape[0]):
        value = raw[p]
        if not np.isfinite(value):
            non_finites += 1
            continue
        if value > 0.0:
            positives += 1
        if value < lowest:
            lowest = value
        if value > highest:
            highest = value
    out[0] = lowest
    out[1] = highest
    out[2] = positives
    out[3] = non_finites
