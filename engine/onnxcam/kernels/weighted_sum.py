"""The weighted sum of channels: what most methods end in.

Products and sums are float32, eight channels summed as a tree before they join the rest: the
error is at most (C / 8 + 5) * 2^-24 times the sum of the absolute products. Eight channels at once
because `out` is then read and written an eighth as often: [2048, 49] takes 7 us, 9 in plain loops
of four channels.
"""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.float_lanes import WIDTH, load, splat, spread, store
from onnxcam.kernels.normalise import finish
from onnxcam.kernels.pooling import in_groups


@part
def clear(out: Any) -> None:
    """Zeros into [P]."""
    for p in range(out.shape[0]):
        out[p] = 0.0


@part
def add_scaled(weight: Any, row: Any, out: Any) -> None:
    """``out += weight * row`` for float32 [P]."""
    for p in range(row.shape[0]):
        out[p] += weight * row[p]


@part
def add_group(rows: Any, weights: Any, out: Any, tail: Any) -> Any:
    """``out += sum_c weights[c] * rows[c]`` for float32 [8, P], lanes of weights, [P]."""
    last = out.shape[0] - WIDTH
    v0, v1, v2, v3, v4, v5, v6, v7 = spread(weights)
    row_0, row_1, row_2, row_3 = rows[0], rows[1], rows[2], rows[3]
    row_4, row_5, row_6, row_7 = rows[4], rows[5], rows[6], rows[7]
    for p in range(0, last, WIDTH):
        low = (v0 * load(row_0, p) + v1 * load(row_1, p)) + (
            v2 * load(row_2, p) + v3 * load(row_3, p)
        )
        high = (v4 * load(row_4, p) + v5 * load(row_5, p)) + (
            v6 * load(row_6, p) + v7 * load(row_7, p)
        )
        store(out, p, load(out, p) + (low + high))
    low = (v0 * load(row_0, last) + v1 * load(row_1, last)) + (
        v2 * load(row_2, last) + v3 * load(row_3, last)
    )
    high = (v4 * load(row_4, last) + v5 * load(row_5, last)) + (
        v6 * load(row_6, last) + v7 * load(row_7, last)
    )
    return tail + (low + high)


@part
def weighted_map(activation: Any, weights: Any, out: Any) -> None:
    """``out[p] = sum_c weights[c] * activation[c, p]``; float32 [C, P], [C] -> [P]."""
    clear(out)
    channels, size = activation.shape
    whole = in_groups(activation)
    tail = splat(0.0)
    for c in range(0, whole, WIDTH):
        tail = add_group(activation[c : c + WIDTH], load(weights, c), out, tail)
    if whole > 0:
        store(out, size - WIDTH, tail)
    for c in range(whole, channels):
        add_scaled(weights[c], activation[c], out)


@kernel
def weighted_sum(activation: Any, weights: Any, raw: Any, finished: Any, summary: Any) -> None:
    """Maps of N images for K targets each from pooled weights, float32 [N, K, C]; as `gradcam`."""
    for n in range(weights.shape[0]):
        for k in range(weights.shape[1]):
            weighted_map(activation[n], weights[n, k], raw[n, k])
            finish(raw[n, k], finished[n, k], summary[n, k])
