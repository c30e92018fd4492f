"""The weighted sum of channels: what most methods end in.

Products and sums are float32, eight channels summed as a tree before they join the rest: the
error is at most (C / 8 + 10) * 2^-24 times the sum of the absolute products. Eight channels at once
because `out` is then read and written an eighth as often: [2048, 49] takes 7 us, 9 in plain loops
of four channels.

Where a map has 49 values (7x7, the last layer of most networks at 224x224), the kernels are
compiled for that size: no loop over positions, no addresses computed, which for gradcam were a
third of the instructions. That takes 10 to 13 % off it for [2048, 49] and [512, 49].

The weights of 64 channels are found first, then their rows added. By turns of eight, adding had
to wait for the weights, and LLVM, which can't know that the map is not the gradient's memory, kept
more lanes of both than there are registers: gradcam of [2048, 49] 12.8 us, so 12.2 (a Sapphire
Rapids; prepared calls). Tried without gain: prefetching what comes next (also on a Zen 3), and
finding a group's weights while the one before is added.
"""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.float_lanes import SHELF, WIDTH, load, put, shelf, splat, spread_from, store
from onnxcam.kernels.normalise import finish
from onnxcam.kernels.pooling import in_groups

USUAL = 49  # values of a map


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
def products(rows: Any, p: int, size: int, w: Any) -> Any:
    """The sum of eight rows, each times its weight: eight values from `p` in the first row."""
    low = (w[0] * load(rows, p) + w[1] * load(rows, p + size)) + (
        w[2] * load(rows, p + 2 * size) + w[3] * load(rows, p + 3 * size)
    )
    high = (w[4] * load(rows, p + 4 * size) + w[5] * load(rows, p + 5 * size)) + (
        w[6] * load(rows, p + 6 * size) + w[7] * load(rows, p + 7 * size)
    )
    return low + high


@part
def add_group(rows: Any, c: int, size: int, w: Any, out: Any, tail: Any) -> Any:
    """``out += sum_i w[i] * rows[c + i]`` for float32 [C, P] and [P], each weight as lanes.

    But the last eight of `out` are `tail`, and returned: where P is no multiple of eight they
    overlap what was just stored, and the processor would wait for that to read them back.
    """
    start = c * size
    for p in range(0, size - WIDTH, WIDTH):
        store(out, p, load(out, p) + products(rows, start + p, size, w))
    return tail + products(rows, start + size - WIDTH, size, w)


@part
def add_groups(
    weights_of: Any, rows: Any, by: Any, out: Any, whole: int, size: int, kept: Any
) -> None:
    """`add_group` for the first `whole` channels; ``weights_of(rows, by, c, size)`` gives lanes."""
    tail = splat(0.0)
    for start in range(0, whole, SHELF * WIDTH):
        groups = min((whole - start) // WIDTH, SHELF)
        for i in range(groups):
            put(kept, i, weights_of(rows, by, start + i * WIDTH, size))
        for i in range(groups):
            tail = add_group(rows, start + i * WIDTH, size, spread_from(kept, i), out, tail)
    store(out, size - WIDTH, tail)


@part
def start_map(weights_of: Any, rows: Any, by: Any, out: Any) -> Any:
    """The weighted sum of float32 [C, P] over whole groups into [P]; returns how many channels."""
    clear(out)
    channels, size = rows.shape
    whole, kept = in_groups(channels, size), shelf()
    if whole > 0 and size == USUAL:
        add_groups(weights_of, rows, by, out, whole, USUAL, kept)
    elif whole > 0:
        add_groups(weights_of, rows, by, out, whole, size, kept)
    return whole


@part
def given(_rows: Any, weights: Any, c: int, _size: int) -> Any:
    """The weights c to c + 7 of [C], as lanes."""
    return load(weights, c)


@part
def weighted_map(activation: Any, weights: Any, out: Any) -> None:
    """``out[p] = sum_c weights[c] * activation[c, p]``; float32 [C, P], [C] -> [P]."""
    whole = start_map(given, activation, weights, out)
    for c in range(whole, activation.shape[0]):
        add_scaled(weights[c], activation[c], out)


@kernel
def weighted_sum(activation: Any, weights: Any, raw: Any, finished: Any, summary: Any) -> None:
    """Maps of N images for K targets each from pooled weights, float32 [N, K, C]; as `gradcam`."""
    for n in range(weights.shape[0]):
        for k in range(weights.shape[1]):
            weighted_map(activation[n], weights[n, k], raw[n, k])
            finish(raw[n, k], finished[n, k], summary[n, k])
