"""Means over space."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._jit import kernel


@kernel
def mean(row: Any) -> float:
    """Mean of float32 [P], accumulated in float64."""
    total = 0.0
    for p in range(row.shape[0]):
        total += float(row[p])
    return total / len(row)


@kernel
def channel_means(values: Any, out: Any) -> None:
    """Mean of every row of float32 [C, P] into float32 [C]."""
    for c in range(values.shape[0]):
        out[c] = mean(values[c])
