"""Grad-CAM++: only positive gradients count, and those of small objects count for more.

With S the sum of the channel's activation, equation 19 of arXiv 1710.11063 is
``alpha = g^2 / (2 g^2 + S g^3)``. Divided by g^2 that is ``1 / (2 + S g)``, which needs no epsilon
and does not underflow for small gradients. Gradients that are not positive have weight zero (the
ReLU of equation 5). The paper assumes S >= 0 (activations after a ReLU): then a term's error is at
most 5 * 2^-24 of it. Otherwise ``2 + S g`` may vanish; such a position, where alpha is undefined,
is left out, and near one the float32 gradient itself decides alpha no better.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.float_lanes import (
    WIDTH,
    keep_last,
    load,
    splat,
    spread,
    store,
    totals,
    where_not_zero,
    where_positive,
)
from onnxcam.kernels.normalise import finish
from onnxcam.kernels.pooling import BLOCK, eight_sums, in_groups
from onnxcam.kernels.weighted_sum import add_group, add_scaled, clear

TWO = np.float32(2.0)
ZERO = np.float32(0.0)


@part
def term(g: Any, sum_: Any) -> Any:
    """``alpha * relu(g)``; NaN must reach the map, where it is reported: so "not <=", not ">"."""
    divisor = TWO + sum_ * g
    return g / divisor if not g <= ZERO and divisor != ZERO else ZERO


@part
def terms(g: Any, sum_: Any) -> Any:
    """`term` for eight gradients of a channel."""
    divisor = splat(TWO) + sum_ * g
    return where_positive(g, where_not_zero(divisor, g / divisor))


@part
def four_weights(gradient: Any, c: int, v_0: Any, v_1: Any, v_2: Any, v_3: Any) -> Any:
    """Lanes whose totals are equation 5 for the channels c to c + 3, from their sums."""
    last = gradient.shape[1] - WIDTH
    row_0, row_1, row_2, row_3 = gradient[c], gradient[c + 1], gradient[c + 2], gradient[c + 3]
    all_0 = all_1 = all_2 = all_3 = splat(ZERO)
    for start in range(0, last, BLOCK):
        sum_0 = sum_1 = sum_2 = sum_3 = splat(ZERO)
        for p in range(start, min(start + BLOCK, last), WIDTH):
            sum_0 = sum_0 + terms(load(row_0, p), v_0)
            sum_1 = sum_1 + terms(load(row_1, p), v_1)
            sum_2 = sum_2 + terms(load(row_2, p), v_2)
            sum_3 = sum_3 + terms(load(row_3, p), v_3)
        all_0, all_1, all_2, all_3 = all_0 + sum_0, all_1 + sum_1, all_2 + sum_2, all_3 + sum_3
    new = (last - 1) % WIDTH + 1
    return (
        all_0 + keep_last(terms(load(row_0, last), v_0), new),
        all_1 + keep_last(terms(load(row_1, last), v_1), new),
        all_2 + keep_last(terms(load(row_2, last), v_2), new),
        all_3 + keep_last(terms(load(row_3, last), v_3), new),
    )


@part
def eight_weights(activation: Any, gradient: Any, c: int) -> Any:
    """Equation 5 for the channels c to c + 7, as lanes."""
    v_0, v_1, v_2, v_3, v_4, v_5, v_6, v_7 = spread(eight_sums(activation, c))
    low = four_weights(gradient, c, v_0, v_1, v_2, v_3)
    return totals(low + four_weights(gradient, c + 4, v_4, v_5, v_6, v_7))


@part
def gradcam_plusplus_map(activation: Any, gradient: Any, out: Any) -> None:
    """Equations 5 and 19 of arXiv 1710.11063; float32 [C, P] twice -> [P]."""
    clear(out)
    channels, size = activation.shape
    whole = in_groups(activation)
    tail = splat(0.0)
    for c in range(0, whole, WIDTH):
        weights = eight_weights(activation, gradient, c)
        tail = add_group(activation[c : c + WIDTH], weights, out, tail)
    if whole > 0:
        store(out, size - WIDTH, tail)
    for c in range(whole, channels):
        sum_ = ZERO
        for p in range(activation.shape[1]):
            sum_ += activation[c, p]
        weight = ZERO
        for p in range(activation.shape[1]):
            weight += term(gradient[c, p], sum_)
        add_scaled(weight, activation[c], out)


@kernel
def gradcam_plusplus(activation: Any, gradient: Any, raw: Any, finished: Any, summary: Any) -> None:
    """Grad-CAM++ of N images for K targets each; see `gradcam` for the arguments."""
    for n in range(gradient.shape[0]):
        for k in range(gradient.shape[1]):
            gradcam_plusplus_map(activation[n], gradient[n, k], raw[n, k])
            finish(raw[n, k], finished[n, k], summary[n, k])
