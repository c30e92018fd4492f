"""What signed maps hold, in four numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel


@part
def summary_of(raw: Any, out: Any) -> None:
    """`summarise` for one map."""
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


@kernel
def summarise(raw: Any, out: Any) -> None:
    """Float32 [M, P] -> float64 [M, 4]: minimum, maximum, positives, non-finites.

    Minimum and maximum are of the finite values.
    """
    for m in range(raw.shape[0]):
        summary_of(raw[m], out[m])
