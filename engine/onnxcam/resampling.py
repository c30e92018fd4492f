"""Which pixels of a row or column make a pixel of the resized one, and with what weights.

As Pillow resizes (its `Resample.c`): a filter stretched by the scale when a picture shrinks, its
weights normalised, then rounded to whole numbers of 2^-22.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_ONE = 1 << 22


class Taps(NamedTuple):
    """Result i is the sum over j of ``weights[i, j] * source[starts[i] + j]``, in units of 2^-22.

    `starts` is int64 [m], not decreasing; `weights` int32 [m, n], zeros among them.
    """

    starts: NDArray[np.int64]
    weights: NDArray[np.int32]


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel (1981) with a = -0.5."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


# filter -> its function, and how far it reaches
_FILTERS: dict[str, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
}


@functools.lru_cache(maxsize=64)
def taps(size: int, resized: int, first: int, count: int, filter_name: str) -> Taps:
    """The taps of `count` results from `first` on, of `size` pixels resized to `resized`.

    The arrays are shared between callers and can't be written to. Every window lies in the source.
    """
    if filter_name == "nearest":
        # Pillow adds the scale up pixel by pixel: so do we, with the same rounding.
        scale = size / resized
        steps = np.full(first + count, scale)
        steps[0] = scale * 0.5
        starts = np.cumsum(steps)[first:].astype(np.int64)
        return _frozen(np.minimum(starts, size - 1), np.full((count, 1), _ONE, np.int32))
    function, support = _FILTERS[filter_name]
    scale = size / resized
    stretch = max(scale, 1.0)
    centre = (np.arange(first, first + count) + 0.5) * scale
    low = np.maximum((centre - support * stretch + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + support * stretch + 0.5).astype(np.int64), size)
    width = int((high - low).max())
    places = low[:, None] + np.arange(width)
    values = function((places - centre[:, None] + 0.5) * (1.0 / stretch))
    values[places >= high[:, None]] = 0.0
    # Added from left to right, as Pillow does: the last bit decides some roundings.
    sums = np.cumsum(values, axis=1)[:, -1:]
    values = np.divide(values, sums, out=values, where=sums != 0)
    weights = (values * _ONE + np.copysign(0.5, values)).astype(np.int32)
    return shifted(Taps(low, weights), size, width)


def shifted(found: Taps, size: int, width: int) -> Taps:
    """The same with windows of `width` pixels, at least as many as now, all inside of `size`."""
    starts = np.minimum(found.starts, size - width)
    weights = np.zeros((len(starts), width), np.int32)
    places = (found.starts - starts)[:, None] + np.arange(found.weights.shape[1])
    rows, inside = np.arange(len(starts))[:, None], places < width
    weights[np.broadcast_to(rows, places.shape)[inside], places[inside]] = found.weights[inside]
    return _frozen(starts, weights)


def _frozen(starts: NDArray[np.int64], weights: NDArray[np.int32]) -> Taps:
    starts.flags.writeable = weights.flags.writeable = False
    return Taps(starts, weights)


@functools.lru_cache(maxsize=64)
def interleaved_taps(size: int, resized: int, first: int, count: int, filter_name: str) -> Taps:
    """`taps` of a row of three interleaved colours: a multiple of 8 taps, each weight three times.

    Windows lie in the source, or begin at its start where they are wider.
    """
    found = taps(size, resized, first, count, filter_name)
    width = -(-found.weights.shape[1] // 8) * 8
    wide = shifted(found, max(size, width), width)
    return _frozen(wide.starts, np.repeat(wide.weights, 3, axis=1))
