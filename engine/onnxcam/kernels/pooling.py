"""Sums and means over space.

Rows are short (49 values), and the additions of one row wait for each other: so four rows go at
once. Measured for [2048, 49]: one row at a time 10 us, four 6. A block's partial sums are float32,
at most 32 terms each; from block to block, and behind the last whole eight, the sum is float64. So
a sum's error is at most 36 * 2^-24 times the sum of the absolute values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.float_lanes import WIDTH, keep_last, load, splat, store, totals

BLOCK = 256


@part
def in_groups(values: Any) -> Any:
    """How many of the rows of [C, P] go eight at once: none where P is less than eight."""
    channels, size = values.shape
    return channels - channels % WIDTH if size >= WIDTH else 0


@part
def mean(row: Any) -> Any:
    """Mean of float32 [P], summed in float64: for the channels behind the last whole four."""
    result = 0.0
    for p in range(row.shape[0]):
        result += np.float64(row[p])
    return np.float32(result / row.shape[0])


@part
def four_sums(values: Any, c: int) -> Any:
    """Lanes whose totals are the sums of the rows c to c + 3 of float32 [C, P], P >= 8."""
    last = values.shape[1] - WIDTH
    row_0, row_1, row_2, row_3 = values[c], values[c + 1], values[c + 2], values[c + 3]
    all_0 = all_1 = all_2 = all_3 = splat(0.0)
    for start in range(0, last, BLOCK):
        sum_0 = sum_1 = sum_2 = sum_3 = splat(0.0)
        for p in range(start, min(start + BLOCK, last), WIDTH):
            sum_0 = sum_0 + load(row_0, p)
            sum_1 = sum_1 + load(row_1, p)
            sum_2 = sum_2 + load(row_2, p)
            sum_3 = sum_3 + load(row_3, p)
        all_0, all_1, all_2, all_3 = all_0 + sum_0, all_1 + sum_1, all_2 + sum_2, all_3 + sum_3
    new = (last - 1) % WIDTH + 1
    return (
        all_0 + keep_last(load(row_0, last), new),
        all_1 + keep_last(load(row_1, last), new),
        all_2 + keep_last(load(row_2, last), new),
        all_3 + keep_last(load(row_3, last), new),
    )


@part
def eight_sums(values: Any, c: int) -> Any:
    """Sums of the rows c to c + 7 of float32 [C, P], P >= 8, as lanes."""
    return totals(four_sums(values, c) + four_sums(values, c + 4))


@part
def eight_means(values: Any, c: int) -> Any:
    """Means of the rows c to c + 7 of float32 [C, P], P >= 8, as lanes."""
    return eight_sums(values, c) / splat(np.float32(values.shape[1]))


@kernel
def channel_means(values: Any, out: Any) -> None:
    """Mean of every row of float32 [C, P] into float32 [C]."""
    channels = values.shape[0]
    whole = in_groups(values)
    for c in range(0, whole, WIDTH):
        store(out, c, eight_means(values, c))
    for c in range(whole, channels):
        out[c] = mean(values[c])
