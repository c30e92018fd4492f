"""From activation and gradient to the signed map, [N, K, P], method by method: a table.

The names are those of :data:`onnxcam.methods.METHODS`, whose kernels do the same. NaN reaches the
map, where :mod:`onnxcam_export.heatmap.finish` sees it: hence `_relu`, because operators that take
a maximum (Relu, Max, Clip) may drop NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import onnx_ir as ir

from onnxcam_export.exposure import float32_of, pixels_of
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.layers import Candidate
from onnxcam_export.spatial_mean import spatial_mean


class LayerValues:
    """A layer's activation and gradients in float32, emitted where a method asks for them."""

    def __init__(self, op: Ops, layer: Candidate, grads: Sequence[ir.Value]) -> None:
        self._op, self._layer, self._grads = op, layer, grads

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
    """``sum_p g / (2 + S g)`` over positive g; see :mod:`onnxcam.kernels.gradcam_plusplus`."""
    sums = op.ReduceSum(layer.activation, op.ints(2), keepdims=1)
    weights = []
    for g in layer.gradients:
        divisor = op.Add(op.Mul(sums, g), 2.0)
        left_out = op.Or(op.LessOrEqual(g, 0.0), op.Equal(divisor, 0.0))
        terms = op.Where(left_out, 0.0, op.Div(g, divisor))
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
    return _over_channels(op, [op.Mul(_relu(op, g), layer.activation) for g in layer.gradients])


def _hirescam(op: Ops, layer: LayerValues) -> ir.Value:
    return _over_channels(op, [op.Mul(g, layer.activation) for g in layer.gradients])


def _gradcam_elementwise(op: Ops, layer: LayerValues) -> ir.Value:
    products = [op.Mul(g, layer.activation) for g in layer.gradients]
    return _over_channels(op, [_relu(op, product) for product in products])


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


def _over_channels(op: Ops, products: Sequence[ir.Value]) -> ir.Value:
    """[N, C, P] for each target to [N, K, P]."""
    return _stacked(op, [op.ReduceSum(each, op.ints(1), keepdims=1) for each in products])


def _stacked(op: Ops, rows: Sequence[ir.Value]) -> ir.Value:
    return rows[0] if len(rows) == 1 else op.Concat(*rows, axis=1)


def _relu(op: Ops, value: ir.Value) -> ir.Value:
    return op.Where(op.LessOrEqual(value, 0.0), 0.0, value)
