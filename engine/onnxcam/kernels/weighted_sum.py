"""The weighted sum of channels: what most methods end in."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._jit import kernel


@kernel
def add_scaled(weight: float, row: Any, out: Any) -> None:
    """``out += weight * row`` for float32 [P]; the product is rounded once."""
    for p in range(row.shape[0]):
        out[p] += weight * row[p]


@kernel
def weighted_sum(activation: Any, weights: Any, out: Any) -> None:
    """``out[p] = sum_c weights[c] * activation[c, p]``; float32 [C, P], [C] -> [P]."""
    out[:] = 0.0
    for c in range(activation.shape[0]):
        add_scaled(weights[c], activation[c], out)
