"""Sums and means over space.

Rows are short (49 values), and the additions of one row wait for each other: so four rows go at
once. Measured for [2048, 49]: one row at a time 10 us, four 6. The last eight values of a row are
loaded whole, and those of them that the loop had already count as zero; the partial sums of eight
rows are added up side by side. With one row after the other, and what is behind the last whole
eight as scalars, gradcam takes as long for 7x7 and 7 % longer for 14x14.

Sums are float32: a lane adds up blocks of at most 32 terms, then the blocks, then one of the last
eight; a row its eight lanes. So a sum's error is at most (36 + P / 256) * 2^-24 times the sum of
the absolute values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.float_lanes import WIDTH, keep_last, load, splat, store, totals

BLOCK = 256
NOTHING = np.float32(-0.0)  # what sums begin with: LLVM leaves it out, not so 0, for -0 + 0 is 0


@part
def mean(row: Any) -> Any:
    """Mean of float32 [P], summed in float64: for the channels behind the last whole eight."""
    result = 0.0
    for p in range(row.shape[0]):
        result += np.float64(row[p])
    return np.float32(result / row.shape[0])


@part
def in_groups(channels: int, size: int) -> Any:
    """How many of the rows of [C, P] go eight at once: none where they have not eight values."""
    return channels - channels % WIDTH if size >= WIDTH else 0


@part
def unseen(size: int) -> Any:
    """How many of a row's last eight values a loop over whole eights before them leaves."""
    return (size - 1) % WIDTH + 1


@part
def four_sums(values: Any, c: int, size: int) -> Any:
    """The rows c to c + 3 of float32 [C, P], each as eight partial sums; `size` is P, >= 8."""
    last = size - WIDTH
    row_0, row_1, row_2, row_3 = c * size, (c + 1) * size, (c + 2) * size, (c + 3) * size
    all_0 = all_1 = all_2 = all_3 = splat(NOTHING)
    for start in range(0, last, BLOCK):
        sum_0 = sum_1 = sum_2 = sum_3 = splat(NOTHING)
        for p in range(start, min(start + BLOCK, last), WIDTH):
            sum_0 = sum_0 + load(values, row_0 + p)
            sum_1 = sum_1 + load(values, row_1 + p)
            sum_2 = sum_2 + load(values, row_2 + p)
            sum_3 = sum_3 + load(values, row_3 + p)
        all_0, all_1, all_2, all_3 = all_0 + sum_0, all_1 + sum_1, all_2 + sum_2, all_3 + sum_3
    return (
        all_0 + keep_last(load(values, row_0 + last), unseen(size)),
        all_1 + keep_last(load(values, row_1 + last), unseen(size)),
        all_2 + keep_last(load(values, row_2 + last), unseen(size)),
        all_3 + keep_last(load(values, row_3 + last), unseen(size)),
    )


@part
def eight_sums(values: Any, c: int, size: int) -> Any:
    """Sums of the rows c to c + 7 of float32 [C, P], as lanes; `size` is P, >= 8."""
    return totals(four_sums(values, c, size) + four_sums(values, c + 4, size))


@part
def eight_means(values: Any, c: int, size: int) -> Any:
    """Means of the rows c to c + 7 of float32 [C, P], as lanes; `size` is P, >= 8."""
    return eight_sums(values, c, size) / splat(np.float32(size))


@kernel
def channel_means(values: Any, out: Any) -> None:
    """Mean of every row of float32 [C, P] into float32 [C]."""
    channels, size = values.shape
    whole = in_groups(channels, size)
    for c in range(0, whole, WIDTH):
        store(out, c, eight_means(values, c, size))
    for c in range(whole, channels):
        out[c] = mean(values[c])
