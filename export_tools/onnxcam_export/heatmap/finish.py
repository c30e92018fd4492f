"""From a signed map to [0, 1], as :mod:`onnxcam.kernels.normalise` does it."""

from __future__ import annotations

import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops


def finish(op: Ops, raw: ir.Value) -> ir.Value:
    """ReLU, divided by the maximum of each map, without epsilon; float32 [N, K, P] -> the same.

    A map without positive values is zero everywhere. One with NaN or infinite values, of either
    sign, is NaN everywhere: it can't be taken for a good one, and the engine reports it.
    """
    # What Relu and ReduceMax make of NaN depends on the runtime, and Relu hides -inf. A sum hands
    # NaN on everywhere, and x - x is zero for finite values only.
    zero_or_nan = op.ReduceSum(op.Sub(raw, raw), op.ints(2), keepdims=1)
    positive = op.Relu(raw)
    highest = op.Add(op.ReduceMax(positive, op.ints(2), keepdims=1), zero_or_nan)
    return op.Div(positive, op.Where(op.Equal(highest, 0.0), 1.0, highest))
