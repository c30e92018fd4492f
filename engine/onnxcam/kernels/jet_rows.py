"""Rows of a picture mixed with JET's colours, from the slopes of the map: see `overlay_jet`."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import byte_lanes, lanes
from onnxcam.kernels._inline import part
from onnxcam.kernels.paint_row import copy_bytes

DIFFERENCE = 2  # of two rows of the map: its place in `slopes`


@part
def bytes_of(slope: Any, peak: Any) -> Any:
    """``(peak - |slope|) / 32``, clipped to 0..255."""
    return byte_lanes.narrowed(lanes.right(lanes.subtract_to_zero(peak, lanes.magnitude(slope)), 5))


@part
def paint_block(picture: Any, start: int, color: Any, look: Any, out: Any, at: int) -> None:
    """32 bytes of one row.

    `look` are the pair and the factor of `byte_lanes.mix`, the byte of level 0, and how many bytes
    lie from there to level 255.
    """
    color = byte_lanes.smaller(byte_lanes.subtract_to_zero(color, look[2]), look[3])
    under = byte_lanes.load(picture, start)
    byte_lanes.store(out, at, byte_lanes.mix(under, color, look[0], look[1]))


@part
def paint_two(
    picture: Any, start: int, rows: int, color: Any, under: Any, look: Any, out: Any, at: int
) -> None:
    """A block in each of two rows: the colours of the first, and half the way to the third's.

    Of so many of them as there are `rows`; here and below.
    """
    if rows > 0:
        paint_block(picture, start, color, look, out, at)
    if rows > 1:
        between = byte_lanes.average(color, under)
        paint_block(picture, start + picture.strides[0], between, look, out, at + out.strides[0])


@part
def paint_four(
    picture: Any, start: int, rows: int, color: Any, under: Any, look: Any, out: Any, at: int
) -> None:
    """A block in each of four rows, from the colours of the first to those of the fifth."""
    middle = byte_lanes.average(color, under)
    paint_two(picture, start, rows, color, middle, look, out, at)
    start, at = start + 2 * picture.strides[0], at + 2 * out.strides[0]
    paint_two(picture, start, rows - 2, middle, under, look, out, at)


@part
def start_and_change(slopes: Any, at: int, difference: int, share: Any, step: Any) -> Any:
    """``slopes[at] + share * slopes[difference]``, and ``step * slopes[difference]``."""
    change = lanes.load(slopes, difference)
    slope = lanes.add(lanes.load(slopes, at), lanes.multiply_high_signed(change, share))
    return slope, lanes.multiply_high_signed(change, step)


@part
def paint_group(
    picture: Any,
    source: int,
    rows: int,
    count: int,
    slopes: Any,
    base: int,
    fraction: int,
    pace: int,
    reach: int,
    peak: int,
    look: Any,
    out: Any,
    target: int,
) -> None:
    """`count` bytes (a multiple of 32) of up to 8 rows.

    The slopes of the first are ``base + fraction * difference``; from each row with exact colours
    to the next ``pace * difference`` is added.
    """
    share, step, height = lanes.fill(fraction), lanes.fill(pace), lanes.fill(peak)
    difference = DIFFERENCE * slopes.shape[1]
    further, on = picture.strides[0], out.strides[0]
    for k in range(0, count, 32):
        slope, change = start_and_change(slopes, base + k, difference + k, share, step)
        start, at = source + k, target + k
        color = bytes_of(slope, height)
        slope = lanes.add(slope, change)
        under = bytes_of(slope, height)
        if reach == 8:
            middle = byte_lanes.average(color, under)
            paint_four(picture, start, rows, color, middle, look, out, at)
            start, at = start + 4 * further, at + 4 * on
            paint_four(picture, start, rows - 4, middle, under, look, out, at)
        elif reach == 4:
            paint_four(picture, start, rows, color, under, look, out, at)
            color, under = under, bytes_of(lanes.add(slope, change), height)
            start, at = start + 4 * further, at + 4 * on
            paint_four(picture, start, rows - 4, color, under, look, out, at)
        elif reach == 1:
            paint_block(picture, start, color, look, out, at)
            for _ in range(1, rows):
                start, at = start + further, at + on
                paint_block(picture, start, under, look, out, at)
                slope = lanes.add(slope, change)
                under = bytes_of(slope, height)
        else:
            paint_two(picture, start, rows, color, under, look, out, at)
            for gone in range(2, 8, 2):
                slope = lanes.add(slope, change)
                color, under = under, bytes_of(slope, height)
                start, at = start + 2 * further, at + 2 * on
                paint_two(picture, start, rows - gone, color, under, look, out, at)


@part
def paint_one(
    picture: Any,
    source: int,
    begin: int,
    count: int,
    slopes: Any,
    base: int,
    fraction: int,
    pace: int,
    reach: int,
    ahead: int,
    peak: int,
    look: Any,
    out: Any,
    target: int,
    pixels: Any,
) -> None:
    """The bytes `begin` (a multiple of 32) to `count` of the row `ahead` of those of a group."""
    share, step, height = lanes.fill(fraction), lanes.fill(pace), lanes.fill(peak)
    many, rest = lanes.fill(ahead // reach), ahead % reach
    difference = DIFFERENCE * slopes.shape[1]
    for k in range(begin, count, 32):
        slope, change = start_and_change(slopes, base + k, difference + k, share, step)
        slope = lanes.add(slope, lanes.multiply(change, many))
        color = bytes_of(slope, height)
        if rest > 0:
            under, half = bytes_of(lanes.add(slope, change), height), reach // 2
            while half > 0:
                middle = byte_lanes.average(color, under)
                if rest & half:
                    color = middle
                else:
                    under = middle
                half //= 2
        if k + 32 <= count:
            paint_block(picture, source + k, color, look, out, target + k)
        else:  # the last bytes, so that nothing is read or written behind them
            copy_bytes(picture, source + k, count - k, pixels, 0)
            paint_block(pixels, 0, color, look, pixels, 0)
            copy_bytes(pixels, 0, count - k, out, target + k)
