"""Quantisation that can be differentiated numerically, for onnx's reference evaluator.

The straight-through gradient is by definition that of scaling, clipping to the integer type's
range and scaling back, taken where the rounded forward pass has been. So the first run rounds
and remembers; later runs add to the rounded values what the unrounded function has changed by.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

_RANGES = {np.dtype(t): np.iinfo(t) for t in (np.int8, np.uint8, np.int16, np.uint16)}


class QuantizeLinear(OpRun):
    """clip(x / scale + zero_point, lowest, highest): rounded at first, then moved unrounded."""

    _first: tuple[Any, Any] | None = None

    def _run(self, x: Any, scale: Any, zero_point: Any = None, **attributes: Any) -> tuple[Any]:
        limits = _RANGES[np.dtype(np.uint8) if zero_point is None else zero_point.dtype]
        axis = attributes.get("axis", 1)
        zero = _along(0 if zero_point is None else zero_point, x.ndim, axis)
        smooth = x / _along(scale, x.ndim, axis) + zero
        smooth = np.clip(smooth, limits.min - 0.5, limits.max + 0.5)
        if self._first is None:
            self._first = (smooth, np.clip(np.rint(smooth), limits.min, limits.max))
        start, rounded = self._first
        return (rounded + (smooth - start),)


class DequantizeLinear(OpRun):
    """(x - zero_point) * scale in float64."""

    def _run(self, x: Any, scale: Any, zero_point: Any = None, **attributes: Any) -> tuple[Any]:
        axis = attributes.get("axis", 1)
        zero = _along(0 if zero_point is None else zero_point, x.ndim, axis)
        return ((x - zero) * _along(scale, x.ndim, axis),)


RELAXED = [QuantizeLinear, DequantizeLinear]


def _along(value: Any, rank: int, axis: int) -> Any:
    array = np.asarray(value, np.float64)
    if array.size == 1:
        return array.reshape(())
    shape = [1] * rank
    shape[axis] = -1
    return array.reshape(shape)
