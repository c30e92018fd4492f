"""Rows of a picture mixed with JET's colours, from the slopes of the map: see `overlay_jet`."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import byte_lanes, lanes
from onnxcam.kernels._inline import part
from onnxcam.kernels.paint_row import added, copy_bytes, load_block, store_block

DIFFERENCE = 2  # of two rows of the map: its place in `slopes`


@part
def falling(slope: Any, peak: Any) -> Any:
    """``(peak - |slope|) / 32``, not below 0."""
    return lanes.right(lanes.subtract_to_zero(peak, lanes.magnitude(slope)), 5)


@part
def bytes_of(slopes: Any, peak: Any) -> Any:
    """``(peak - |slope|) / 32``, clipped to 0..255, of 64 slopes in two parts."""
    return byte_lanes.narrowed(falling(slopes[0], peak), falling(slopes[1], peak))


@part
def paint_block(
    picture: Any, start: int, color: Any, look: Any, half: int, out: Any, at: int
) -> None:
    """64 bytes of one row, or with `half` the first 32 of them; here and below.

    `look` are the pair and the factor of `byte_lanes.mix`, the byte of level 0, and how many bytes
    lie from there to level 255.
    """
    color = byte_lanes.smaller(byte_lanes.subtract_to_zero(color, look[2]), look[3])
    under = load_block(picture, start, half)
    store_block(out, at, half, byte_lanes.mix(under, color, look[0], look[1]))


@part
def paint_two(
    picture: Any,
    start: int,
    rows: int,
    color: Any,
    under: Any,
    look: Any,
    half: int,
    out: Any,
    at: int,
) -> None:
    """A block in each of two rows: the colours of the first, and half the way to the third's.

    Of so many of them as there are `rows`; here and below.
    """
    if rows > 0:
        paint_block(picture, start, color, look, half, out, at)
    if rows > 1:
        start, at = start + picture.strides[0], at + out.strides[0]
        paint_block(picture, start, byte_lanes.average(color, under), look, half, out, at)


@part
def paint_four(
    picture: Any,
    start: int,
    rows: int,
    color: Any,
    under: Any,
    look: Any,
    half: int,
    out: Any,
    at: int,
) -> None:
    """A block in each of four rows, from the colours of the first to those of the fifth."""
    middle = byte_lanes.average(color, under)
    paint_two(picture, start, rows, color, middle, look, half, out, at)
    start, at = start + 2 * picture.strides[0], at + 2 * out.strides[0]
    paint_two(picture, start, rows - 2, middle, under, look, half, out, at)


@part
def start_and_change(slopes: Any, at: int, difference: int, share: Any, step: Any) -> Any:
    """``slopes[at] + share * slopes[difference]``, and ``step * slopes[difference]``, of 64."""
    low, high = lanes.load(slopes, difference), lanes.load(slopes, difference + 32)
    start = (
        lanes.add(lanes.load(slopes, at), lanes.multiply_high_signed(low, share)),
        lanes.add(lanes.load(slopes, at + 32), lanes.multiply_high_signed(high, share)),
    )
    return start, (lanes.multiply_high_signed(low, step), lanes.multiply_high_signed(high, step))


@part
def paint_column(
    picture: Any,
    start: int,
    rows: int,
    slopes: Any,
    base: int,
    difference: int,
    share: Any,
    step: Any,
    reach: int,
    peak: Any,
    look: Any,
    half: int,
    out: Any,
    at: int,
) -> None:
    """A block in each of up to 8 rows; see `paint_group`."""
    further, on = picture.strides[0], out.strides[0]
    slope, change = start_and_change(slopes, base, difference, share, step)
    color = bytes_of(slope, peak)
    slope = added(slope, change)
    under = bytes_of(slope, peak)
    if reach == 8:
        middle = byte_lanes.average(color, under)
        paint_four(picture, start, rows, color, middle, look, half, out, at)
        start, at = start + 4 * further, at + 4 * on
        paint_four(picture, start, rows - 4, middle, under, look, half, out, at)
    elif reach == 4:
        paint_four(picture, start, rows, color, under, look, half, out, at)
        color, under = under, bytes_of(added(slope, change), peak)
        start, at = start + 4 * further, at + 4 * on
        paint_four(picture, start, rows - 4, color, under, look, half, out, at)
    elif reach == 1:
        paint_block(picture, start, color, look, half, out, at)
        for _ in range(1, rows):
            start, at = start + further, at + on
            paint_block(picture, start, under, look, half, out, at)
            slope = added(slope, change)
            under = bytes_of(slope, peak)
    else:
        paint_two(picture, start, rows, color, under, look, half, out, at)
        for gone in range(2, 8, 2):
            slope = added(slope, change)
            color, under = under, bytes_of(slope, peak)
            start, at = start + 2 * further, at + 2 * on
            paint_two(picture, start, rows - gone, color, under, look, half, out, at)


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
    difference, whole = DIFFERENCE * slopes.shape[1], count // 64 * 64
    for k in range(0, whole, 64):
        paint_column(
            picture, source + k, rows, slopes, base + k, difference + k, share, step, reach, height,
            look, 0, out, target + k,
        )  # fmt: skip
    if whole < count:
        paint_column(
            picture, source + whole, rows, slopes, base + whole, difference + whole, share, step,
            reach, height, look, 1, out, target + whole,
        )  # fmt: skip


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
    for k in range(begin, count, 64):
        slope, change = start_and_change(slopes, base + k, difference + k, share, step)
        passed = lanes.multiply(change[0], many), lanes.multiply(change[1], many)
        slope = added(slope, passed)
        color = bytes_of(slope, height)
        if rest > 0:
            under, part_of = bytes_of(added(slope, change), height), reach // 2
            while part_of > 0:
                middle = byte_lanes.average(color, under)
                if rest & part_of:
                    color = middle
                else:
                    under = middle
                part_of //= 2
        if k + 64 <= count:
            paint_block(picture, source + k, color, look, 0, out, target + k)
        else:  # the last bytes, so that nothing is read or written behind them
            copy_bytes(picture, source + k, count - k, pixels, 0)
            paint_block(pixels, 0, color, look, 0, pixels, 0)
            copy_bytes(pixels, 0, count - k, out, target + k)
