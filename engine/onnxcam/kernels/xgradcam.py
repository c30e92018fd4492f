"""XGrad-CAM: channels weighted by the mean of their gradient, itself weighted by activation."""

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
    store,
    totals,
    where_not_zero,
)
from onnxcam.kernels.normalise import finish
from onnxcam.kernels.pooling import BLOCK, eight_sums, in_groups
from onnxcam.kernels.weighted_sum import add_group, add_scaled, clear


@part
def four_products(left: Any, right: Any, c: int) -> Any:
    """As `four_sums`, of ``left * right``, float32 [C, P] both."""
    last = left.shape[1] - WIDTH
    row_0, row_1, row_2, row_3 = left[c], left[c + 1], left[c + 2], left[c + 3]
    by_0, by_1, by_2, by_3 = right[c], right[c + 1], right[c + 2], right[c + 3]
    all_0 = all_1 = all_2 = all_3 = splat(0.0)
    for start in range(0, last, BLOCK):
        sum_0 = sum_1 = sum_2 = sum_3 = splat(0.0)
        for p in range(start, min(start + BLOCK, last), WIDTH):
            sum_0 = sum_0 + load(row_0, p) * load(by_0, p)
            sum_1 = sum_1 + load(row_1, p) * load(by_1, p)
            sum_2 = sum_2 + load(row_2, p) * load(by_2, p)
            sum_3 = sum_3 + load(row_3, p) * load(by_3, p)
        all_0, all_1, all_2, all_3 = all_0 + sum_0, all_1 + sum_1, all_2 + sum_2, all_3 + sum_3
    new = (last - 1) % WIDTH + 1
    return (
        all_0 + keep_last(load(row_0, last) * load(by_0, last), new),
        all_1 + keep_last(load(row_1, last) * load(by_1, last), new),
        all_2 + keep_last(load(row_2, last) * load(by_2, last), new),
        all_3 + keep_last(load(row_3, last) * load(by_3, last), new),
    )


@part
def eight_ratios(activation: Any, gradient: Any, c: int) -> Any:
    """The weights of the channels c to c + 7, as lanes.

    A channel whose activation sums to zero has none: after a ReLU it is zero everywhere.
    """
    products = four_products(activation, gradient, c) + four_products(activation, gradient, c + 4)
    sums = eight_sums(activation, c)
    return where_not_zero(sums, totals(products) / sums)


@part
def xgradcam_map(activation: Any, gradient: Any, out: Any) -> None:
    """``sum_c w_c A`` with ``w_c = sum_p(g A) / sum_p(A)``; float32 [C, P] twice -> [P].

    The weights of arXiv 2008.02312, before the ReLU.
    """
    clear(out)
    channels, size = activation.shape
    whole = in_groups(activation)
    tail = splat(0.0)
    for c in range(0, whole, WIDTH):
        weights = eight_ratios(activation, gradient, c)
        tail = add_group(activation[c : c + WIDTH], weights, out, tail)
    if whole > 0:
        store(out, size - WIDTH, tail)
    for c in range(whole, channels):
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
