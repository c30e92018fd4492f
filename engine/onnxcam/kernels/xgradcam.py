"""XGrad-CAM: channels weighted by the mean of their gradient, itself weighted by activation."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.float_lanes import load, splat, total
from onnxcam.kernels.normalise import finish
from onnxcam.kernels.pooling import BLOCK, four_sums
from onnxcam.kernels.weighted_sum import GROUP, add_group, add_scaled, clear


@part
def ratio(product: Any, sum_: Any) -> Any:
    """A channel whose activation sums to zero has no weight: after a ReLU it is zero everywhere."""
    return product / sum_ if sum_ != 0.0 else np.float32(0.0)


@part
def four_products(left: Any, right: Any, c: int) -> Any:
    """Sums of ``left * right`` over the rows c to c + 3, float32 [C, P] both, as float32."""
    size = left.shape[1]
    whole = size - size % 8
    row_0, row_1, row_2, row_3 = left[c], left[c + 1], left[c + 2], left[c + 3]
    by_0, by_1, by_2, by_3 = right[c], right[c + 1], right[c + 2], right[c + 3]
    all_0 = all_1 = all_2 = all_3 = splat(0.0)
    for start in range(0, whole, BLOCK):
        sum_0 = sum_1 = sum_2 = sum_3 = splat(0.0)
        for p in range(start, min(start + BLOCK, whole), 8):
            sum_0 = sum_0 + load(row_0, p) * load(by_0, p)
            sum_1 = sum_1 + load(row_1, p) * load(by_1, p)
            sum_2 = sum_2 + load(row_2, p) * load(by_2, p)
            sum_3 = sum_3 + load(row_3, p) * load(by_3, p)
        all_0, all_1, all_2, all_3 = all_0 + sum_0, all_1 + sum_1, all_2 + sum_2, all_3 + sum_3
    one_0, one_1, one_2, one_3 = total(all_0), total(all_1), total(all_2), total(all_3)
    for p in range(whole, size):
        one_0 += row_0[p] * by_0[p]
        one_1 += row_1[p] * by_1[p]
        one_2 += row_2[p] * by_2[p]
        one_3 += row_3[p] * by_3[p]
    return one_0, one_1, one_2, one_3


@part
def four_ratios(activation: Any, gradient: Any, c: int) -> Any:
    """The weights of the channels c to c + 3."""
    sum_0, sum_1, sum_2, sum_3 = four_sums(activation, c)
    by_0, by_1, by_2, by_3 = four_products(activation, gradient, c)
    return ratio(by_0, sum_0), ratio(by_1, sum_1), ratio(by_2, sum_2), ratio(by_3, sum_3)


@part
def xgradcam_map(activation: Any, gradient: Any, out: Any) -> None:
    """``sum_c w_c A`` with ``w_c = sum_p(g A) / sum_p(A)``; float32 [C, P] twice -> [P].

    The weights of arXiv 2008.02312, before the ReLU.
    """
    clear(out)
    channels = activation.shape[0]
    whole = channels - channels % GROUP
    for c in range(0, whole, GROUP):
        low = four_ratios(activation, gradient, c)
        high = four_ratios(activation, gradient, c + 4)
        add_group(activation[c : c + GROUP], low + high, out)
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
