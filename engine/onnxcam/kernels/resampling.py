"""Which pixels of a row or column make a pixel of the resized one, and with what weights.

As Pillow resizes (its `Resample.c` and, for "nearest", `Geometry.c`): a filter stretched by the
scale where a picture shrinks, its weights normalised, then rounded to whole numbers of 2^-22.
Only + - * / in float64, in Pillow's order: the last bit decides some roundings.
"""

from __future__ import annotations

from typing import Any

from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.pixel_lanes import BITS

# The filters' numbers, in the order of `onnxcam.contract.FILTERS`.
NEAREST, BILINEAR = 0, 1  # and 2, bicubic
A = -0.5  # of Keys' cubic (1981)


@part
def filter_value(kind: int, x: float) -> float:
    """The filter at distance x from its centre."""
    if kind == NEAREST:
        return 1.0
    x = abs(x)
    if kind == BILINEAR:
        return max(1.0 - x, 0.0)
    if x < 1.0:
        return ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * A
    return 0.0


@part
def centre_of(kind: int, i: int, scale: float, before: float) -> float:
    """Where result i lies in the source. For "nearest" Pillow adds the scale up result by result:
    `before` is the place of the result before."""
    if kind == NEAREST:
        return before + scale if i > 0 else scale * 0.5
    return (i + 0.5) * scale


@part
def place_before(kind: int, first: int, scale: float) -> float:
    """The place of the result before `first`."""
    place = 0.0
    if kind == NEAREST:
        for i in range(first):
            place = centre_of(kind, i, scale, place)
    return place


@part
def low_end(kind: int, centre: float, reach: float, size: int) -> int:
    """The first pixel of the source that counts."""
    if kind == NEAREST:
        return min(int(centre), size - 1)
    return max(int(centre - reach + 0.5), 0)


@part
def high_end(kind: int, centre: float, reach: float, size: int) -> int:
    """The pixel behind the last one that counts."""
    if kind == NEAREST:
        return min(int(centre), size - 1) + 1
    return min(int(centre + reach + 0.5), size)


@kernel
def resampling_width(size: int, resized: int, first: int, count: int, kind: int, out: Any) -> None:
    """How many taps `resampling_taps` needs for these results.

    Args:
        size: pixels of the source's row or column.
        resized: pixels of the whole result.
        first: the first result that is wanted, of a crop; 0 for all.
        count: how many are wanted.
        kind: the filter.
        out: int64 [1]; at most `size`.
    """
    scale = size / resized
    stretch = max(scale, 1.0)
    reach = kind * stretch
    place = place_before(kind, first, scale)
    width = 1
    for i in range(first, first + count):
        place = centre_of(kind, i, scale, place)
        wide = high_end(kind, place, reach, size) - low_end(kind, place, reach, size)
        width = max(width, wide)
    out[0] = width


@kernel
def resampling_taps(
    size: int, resized: int, first: int, kind: int, starts: Any, weights: Any
) -> None:
    """The resize of a row or column, for `picture_to_float32` and `picture_to_uint8`.

    Result i is the sum over j of ``weights[i, j] * source[starts[i] + j]``, in units of 2^-22.
    With one channel and as many taps as `resampling_width` says this is what a column of a picture
    needs (`rows`, `row_weights`), and a row of a gray one. A row of three interleaved colours
    (`columns`, `column_weights`) wants 3 channels and that number rounded up to a multiple of 8;
    then, of a picture that is narrower, windows begin at 0 and reach beyond its end: widen it.

    Args:
        size: pixels of the source's row or column.
        resized: pixels of the whole result.
        first: the first result that is wanted, of a crop; 0 for all.
        kind: the filter.
        starts: int64 [count], not decreasing; -1 everywhere where the taps are too few.
        weights: int32 [count, taps, channels]: each weight as often as there are channels.
    """
    scale = size / resized
    stretch = max(scale, 1.0)
    reach = kind * stretch
    narrow = 1.0 / stretch
    count, taps, channels = weights.shape
    place = place_before(kind, first, scale)
    enough = True
    for i in range(count):
        place = centre_of(kind, first + i, scale, place)
        low = low_end(kind, place, reach, size)
        high = high_end(kind, place, reach, size)
        enough = enough and high - low <= taps
        total = 0.0
        for at in range(low, high):
            total += filter_value(kind, (at - place + 0.5) * narrow)
        start = max(min(low, size - taps), 0)
        for j in range(taps):
            at = start + j
            value = 0.0
            if low <= at < high:
                value = filter_value(kind, (at - place + 0.5) * narrow)
                if total != 0.0:
                    value = value / total
            whole = int(value * (1 << BITS) + (-0.5 if value < 0.0 else 0.5))
            for c in range(channels):
                weights[i, j, c] = whole
        starts[i] = start
    if not enough:
        for i in range(count):
            starts[i] = -1
