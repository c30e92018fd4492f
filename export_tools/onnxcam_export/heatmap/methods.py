"""From activation and gradient to the signed map, [N, K, P], method by method: a table.

The names are those of :data:`onnxcam.methods.METHODS`, whose kernels do the same, up to a factor
that the finished map does not have any more. NaN and infinity reach the map, where
:mod:`onnxcam_export.heatmap.finish` sees them (even -inf, which the ReLU of some kernels passes
over).

Written for what onnxruntime is fast at: for [2048, 49] a product takes 38 us on one thread, the
sum over channels 8 as a product with ones and 95 as ReduceSum, Where 400.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import onnx_ir as ir

from onnxcam_export.exposure import float32_of, pixels_of
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import dims
from onnxcam_export.layers import Candidate
from onnxcam_export.spatial_mean import spatial_mean


class LayerValues:
    """A layer's activation and gradients in float32, emitted where a method asks for them."""

    def __init__(self, op: Ops, layer: Candidate, grads: Sequence[ir.Value]) -> None:
        self._op, self._layer, self._grads = op, layer, grads

    @property
    def channels(self) -> int | None:
        """C, None where it is open."""
        return dims(self._layer.value)[self._layer.channel_axis]

    @cached_property
    def activation(self) -> ir.Value:
        """[N, C, P]."""
        return self._pixels(self._layer.value)

    @cached_property
    def gradients(self) -> list[ir.Value]:
        """[N, C, P] for each target."""
        return [self._pixels(grad) for grad in self._grads]

    @cached_property
    def means(self) -> list[ir.Value]:
        """The gradients' means over space, [N, C] for each target, made without the gradients
        themselves where that can be (:mod:`onnxcam_export.rewrites.mean_of_dense`).
        """
        return [spatial_mean(self._op, self._layer, grad) for grad in self._grads]

    def _pixels(self, value: ir.Value) -> ir.Value:
        return pixels_of(self._op, float32_of(self._op, value, self._layer), self._layer)


def _gradcam(op: Ops, layer: LayerValues) -> ir.Value:
    return _weighted_sum(op, layer.means, layer.activation)


def _gradcam_plusplus(op: Ops, layer: LayerValues) -> ir.Value:
    """``sum_p r / (2 + S r)`` with ``r = relu(g)``; see :mod:`onnxcam.kernels.gradcam_plusplus`.

    Positions where the divisor vanishes are left out: there it becomes 1, and the term 0.
    """
    sums = op.ReduceSum(layer.activation, op.ints(2), keepdims=1)
    weights = []
    for g in layer.gradients:
        twice = _twice_relu(op, g)
        divisor = op.Add(op.Mul(sums, twice), 4.0)  # twice as large as well
        vanishes = op.Cast(op.Equal(divisor, 0.0), to=ir.DataType.FLOAT)
        terms = op.Div(twice, op.Add(divisor, vanishes))
        terms = op.Mul(terms, op.Sub(op.const(1.0, ir.DataType.FLOAT), vanishes))
        weights.append(op.ReduceSum(terms, op.ints(2), keepdims=0))
    return _weighted_sum(op, weights, layer.activation)


def _xgradcam(op: Ops, layer: LayerValues) -> ir.Value:
    """``sum_p g A / sum_p A``; zero where the channel's activation sums to zero."""
    a = layer.activation
    sums = op.ReduceSum(a, op.ints(2), keepdims=0)
    dead = op.Equal(sums, 0.0)
    weights = []
    for g in layer.gradients:
        product = op.ReduceSum(op.Mul(g, a), op.ints(2), keepdims=0)
        weights.append(op.Where(dead, 0.0, op.Div(product, sums)))
    return _weighted_sum(op, weights, a)


def _layercam(op: Ops, layer: LayerValues) -> ir.Value:
    products = [op.Mul(_twice_relu(op, g), layer.activation) for g in layer.gradients]
    return _over_channels(op, products, layer.channels)


def _hirescam(op: Ops, layer: LayerValues) -> ir.Value:
    products = [op.Mul(g, layer.activation) for g in layer.gradients]
    return _over_channels(op, products, layer.channels)


def _gradcam_elementwise(op: Ops, layer: LayerValues) -> ir.Value:
    products = [op.Mul(g, layer.activation) for g in layer.gradients]
    return _over_channels(op, [_twice_relu(op, each) for each in products], layer.channels)


BUILDERS: dict[str, Callable[[Ops, LayerValues], ir.Value]] = {
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plusplus,
    "xgradcam": _xgradcam,
    "layercam": _layercam,
    "hirescam": _hirescam,
    "gradcam-elementwise": _gradcam_elementwise,
}


def _weighted_sum(op: Ops, weights: Sequence[ir.Value], activation: ir.Value) -> ir.Value:
    """Weights [N, C] for each target and [N, C, P] to [N, K, P].

    A product of matrices: [1, 2048] by [2048, 49] takes 16 us in onnxruntime, Mul and ReduceSum
    140; 20 and 140 us for [512, 196].
    """
    return op.MatMul(_stacked(op, [op.Unsqueeze(w, op.ints(1)) for w in weights]), activation)


def _over_channels(op: Ops, products: Sequence[ir.Value], channels: int | None) -> ir.Value:
    """[N, C, P] for each target to [N, K, P]."""
    if channels is None:
        return _stacked(op, [op.ReduceSum(each, op.ints(1), keepdims=1) for each in products])
    ones = op.const(np.ones((1, channels)), ir.DataType.FLOAT)
    return _stacked(op, [op.MatMul(ones, each) for each in products])


def _stacked(op: Ops, rows: Sequence[ir.Value]) -> ir.Value:
    return rows[0] if len(rows) == 1 else op.Concat(*rows, axis=1)


def _twice_relu(op: Ops, value: ir.Value) -> ir.Value:
    """``x + |x|``: NaN where x is, whereas Relu, Max and Clip may drop it."""
    return op.Add(value, op.Abs(value))
