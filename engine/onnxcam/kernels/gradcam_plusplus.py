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
    totals,
    where_not_zero,
    where_positive,
)
from onnxcam.kernels.normalise import finish
from onnxcam.kernels.pooling import BLOCK, NOTHING, eight_sums, unseen
from onnxcam.kernels.weighted_sum import add_scaled, start_map

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
def four_weights(gradient: Any, c: int, size: int, s_0: Any, s_1: Any, s_2: Any, s_3: Any) -> Any:
    """`four_sums` of the `terms` of each channel, by its S."""
    last = size - WIDTH
    row_0, row_1, row_2, row_3 = c * size, (c + 1) * size, (c + 2) * size, (c + 3) * size
    all_0 = all_1 = all_2 = all_3 = splat(NOTHING)
    for start in range(0, last, BLOCK):
        sum_0 = sum_1 = sum_2 = sum_3 = splat(NOTHING)
        for p in range(start, min(start + BLOCK, last), WIDTH):
            sum_0 = sum_0 + terms(load(gradient, row_0 + p), s_0)
            sum_1 = sum_1 + terms(load(gradient, row_1 + p), s_1)
            sum_2 = sum_2 + terms(load(gradient, row_2 + p), s_2)
            sum_3 = sum_3 + terms(load(gradient, row_3 + p), s_3)
        all_0, all_1, all_2, all_3 = all_0 + sum_0, all_1 + sum_1, all_2 + sum_2, all_3 + sum_3
    return (
        all_0 + keep_last(terms(load(gradient, row_0 + last), s_0), unseen(size)),
        all_1 + keep_last(terms(load(gradient, row_1 + last), s_1), unseen(size)),
        all_2 + keep_last(terms(load(gradient, row_2 + last), s_2), unseen(size)),
        all_3 + keep_last(terms(load(gradient, row_3 + last), s_3), unseen(size)),
    )


@part
def weights(activation: Any, gradient: Any, c: int, size: int) -> Any:
    """Equation 5 for the channels c to c + 7, as lanes."""
    s = spread(eight_sums(activation, c, size))
    low = four_weights(gradient, c, size, s[0], s[1], s[2], s[3])
    high = four_weights(gradient, c + 4, size, s[4], s[5], s[6], s[7])
    return totals(low + high)


@part
def gradcam_plusplus_map(activation: Any, gradient: Any, out: Any) -> None:
    """Equations 5 and 19 of arXiv 1710.11063; float32 [C, P] twice -> [P]."""
    whole = start_map(weights, activation, gradient, out)
    for c in range(whole, activation.shape[0]):
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
