"""XGrad-CAM: channels weighted by the mean of their gradient, itself weighted by activation.

Both sums of a channel come from one pass over it, two channels at once: with a pass for each sum,
four channels at once, [2048, 49] took 8 % longer, [64, 3136] 20 %.
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
    totals,
    where_not_zero,
)
from onnxcam.kernels.normalise import finish
from onnxcam.kernels.pooling import BLOCK, NOTHING, unseen
from onnxcam.kernels.weighted_sum import add_scaled, start_map


@part
def two_rows(left: Any, right: Any, c: int, size: int) -> Any:
    """As `four_sums`, for the rows c and c + 1: both of `left`, then of ``left * right``."""
    last = size - WIDTH
    row_0, row_1 = c * size, (c + 1) * size
    all_0 = all_1 = all_2 = all_3 = splat(NOTHING)
    for start in range(0, last, BLOCK):
        sum_0 = sum_1 = sum_2 = sum_3 = splat(NOTHING)
        for p in range(start, min(start + BLOCK, last), WIDTH):
            left_0, left_1 = load(left, row_0 + p), load(left, row_1 + p)
            sum_0 = sum_0 + left_0
            sum_1 = sum_1 + left_1
            sum_2 = sum_2 + left_0 * load(right, row_0 + p)
            sum_3 = sum_3 + left_1 * load(right, row_1 + p)
        all_0, all_1, all_2, all_3 = all_0 + sum_0, all_1 + sum_1, all_2 + sum_2, all_3 + sum_3
    left_0, left_1 = load(left, row_0 + last), load(left, row_1 + last)
    return (
        all_0 + keep_last(left_0, unseen(size)),
        all_1 + keep_last(left_1, unseen(size)),
        all_2 + keep_last(left_0 * load(right, row_0 + last), unseen(size)),
        all_3 + keep_last(left_1 * load(right, row_1 + last), unseen(size)),
    )


@part
def ratios(activation: Any, gradient: Any, c: int, size: int) -> Any:
    """The weights of the channels c to c + 7, as lanes.

    A channel whose activation sums to zero has weight zero: after a ReLU it is zero everywhere.
    """
    a_0, a_1, p_0, p_1 = two_rows(activation, gradient, c, size)
    a_2, a_3, p_2, p_3 = two_rows(activation, gradient, c + 2, size)
    a_4, a_5, p_4, p_5 = two_rows(activation, gradient, c + 4, size)
    a_6, a_7, p_6, p_7 = two_rows(activation, gradient, c + 6, size)
    sums = totals((a_0, a_1, a_2, a_3, a_4, a_5, a_6, a_7))
    products = totals((p_0, p_1, p_2, p_3, p_4, p_5, p_6, p_7))
    return where_not_zero(sums, products / sums)


@part
def xgradcam_map(activation: Any, gradient: Any, out: Any) -> None:
    """``sum_c w_c A`` with ``w_c = sum_p(g A) / sum_p(A)``; float32 [C, P] twice -> [P].

    The weights of arXiv 2008.02312, before the ReLU.
    """
    whole = start_map(ratios, activation, gradient, out)
    for c in range(whole, activation.shape[0]):
        total_ = 0.0
        product = 0.0
        for p in range(activation.shape[1]):
            total_ += np.float64(activation[c, p])
            product += np.float64(activation[c, p]) * np.float64(gradient[c, p])
        if total_ != 0.0:
            add_scaled(np.float32(product / total_), activation[c], out)


@kernel
def xgradcam(activation: Any, gradient: Any, raw: Any, finished: Any, summary: Any) -> None:
    """XGrad-CAM of N images for K targets each; see `gradcam` for the arguments."""
    for n in range(gradient.shape[0]):
        for k in range(gradient.shape[1]):
            xgradcam_map(activation[n], gradient[n, k], raw[n, k])
            finish(raw[n, k], finished[n, k], summary[n, k])
