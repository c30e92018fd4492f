"""Which pixels of a row or column make a pixel of the resized one, and with what weights."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxcam.contract import FILTERS


class Taps(NamedTuple):
    """Result i is the sum over j of ``weights[i, j] * source[starts[i] + j]``, in units of 2^-22.

    `starts` is int64 [m], not decreasing; `weights` int32 [m, n], zeros among them.
    """

    starts: NDArray[np.int64]
    weights: NDArray[np.int32]


@functools.lru_cache(maxsize=64)
def taps(
    size: int, resized: int, first: int, count: int, filter_name: str, channels: int = 1
) -> Taps:
    """The taps of `count` results from `first` on, of `size` pixels resized to `resized`.

    The arrays are shared between callers and can't be written to. Every window lies in the source.
    With three channels they are those of a row of interleaved colours: a multiple of 8 taps, each
    weight three times; where so many are more than the source has, windows begin at its start.
    """
    from onnxcam import compiled

    kind = FILTERS.index(filter_name)
    width = np.empty(1, np.int64)
    compiled.resampling_width(size, resized, first, count, kind, width)
    wide = int(width[0]) if channels == 1 else -(-int(width[0]) // 8) * 8
    starts = np.empty(count, np.int64)
    weights = np.empty((count, wide, channels), np.int32)
    compiled.resampling_taps(size, resized, first, kind, starts, weights)
    starts.flags.writeable = weights.flags.writeable = False
    return Taps(starts, weights.reshape(count, -1))
