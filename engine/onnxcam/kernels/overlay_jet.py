"""The overlay of OpenCV's JET, computed instead of looked up.

Each channel of JET rises and falls by four levels an index: it is ``382.5 - |4 i - c|`` clipped to
0..255, with c = 765, 510 and 255 for red, green and blue (OpenCV's own heights are 383, 382, 383).
So the rows of the map are kept as ``4 i - c`` of every byte, already multiplied by alpha: the
slopes. Eight rows of the picture are painted at once, 32 bytes of each: from one to the next the
slopes change by the same amount, so that a row takes 17 instructions for 32 bytes and no lookup.
Colours are not cut into 256 steps; they differ from those of the table by at most 2.5 levels,
times alpha, and by 0.1 for what eight additions lose.

With AVX2, 1280x720 (minima, a loaded machine; np.copyto 80 us): 185 us, against 222 for one row
at a time, its slopes interpolated anew (22 instructions, bytes at even and odd places apart); the
same at once, bytes widened and narrowed by the unpack and pack instructions, 215; four rows 203.
Half a level for rounding costs no instruction: it is put below the picture's byte before that is
weighted. SSE2: 490 us against 530.

An AMD Zen 3 takes 1.6 ns for 32 bytes in its first cache and 1.7 at 1280x720: what counts is the
arithmetic (17.7 instructions, at most four a cycle), not memory. 2, 4 or 16 rows at once are the
same to 4 % there, four for what is left of eight too; prefetching 512 bytes ahead 40 % more.
Stores past the caches take 30 % less at 3840x2160 where rows begin at multiples of 64 bytes, but
four times as long where they do not (NumPy's arrays): eight half-written lines are too many.
"""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import lanes
from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.map_rows import (
    below,
    first_inside,
    first_row,
    fraction_of,
    nearest_level,
    place_columns,
    position,
    quantise,
    stretch_row,
)
from onnxcam.kernels.paint_row import copy_bytes, to_rgb

UNIT = 64.0  # steps a level: 4 * 255 * 64 * alpha must stay below 32768, for alpha up to a half
GROUP = 8  # rows painted at once
DIFFERENCE, BACKGROUND = 2, 3  # places in `slopes`; 0 and 1 are for the map's even and odd rows


@part
def spread_row(row: Any, offsets: Any, slopes: Any, at: int) -> None:
    """``row - offsets``, every value of `row` at the places of its pixel's three bytes."""
    for x in range(0, row.shape[0] - 31, 32):
        a = lanes.load(row, x)
        k = at + 3 * x
        lanes.store(slopes, k, lanes.subtract(lanes.spread_0(a), lanes.load(offsets, 0)))
        lanes.store(slopes, k + 32, lanes.subtract(lanes.spread_1(a), lanes.load(offsets, 32)))
        lanes.store(slopes, k + 64, lanes.subtract(lanes.spread_2(a), lanes.load(offsets, 64)))


@part
def fill_offsets(alpha: float, bgr: int, offsets: Any) -> None:
    """``c + 2`` of every byte of 32 pixels, in the order of `lanes.thirds`.

    The 2 is half an index: an index is a value without its fraction.
    """
    begin, step = (257.0, 255.0) if bgr else (767.0, -255.0)
    for k in range(96):
        byte = 32 * (k // 32) + lanes.CROSSED[k % 32]
        offsets[k] = int((begin + step * (byte % 3)) * alpha * UNIT + 0.5)


@part
def slope_pair(
    values: Any,
    j: int,
    scale: float,
    starts: Any,
    edges: Any,
    weights: Any,
    first: int,
    last: int,
    spare: Any,
    row: Any,
    held: Any,
    levels: Any,
    offsets: Any,
    slopes: Any,
) -> None:
    """The map's rows j and j + 1 (within the map) in `slopes`, and their difference."""
    lower, upper = max(j, 0), min(j + 1, values.shape[0] - 1)
    length = slopes.shape[1]
    for i in range(lower, upper + 1):
        if held[i % 2] != i:
            stretch_row(values[i], 0, starts, edges, weights, first, last, spare, row)
            quantise(row, scale, first, last, levels)
            spread_row(levels, offsets, slopes, i % 2 * length)
            held[i % 2] = i
    a, b = lower % 2 * length, upper % 2 * length
    for k in range(0, length - 31, 32):
        change = lanes.subtract(lanes.load(slopes, b + k), lanes.load(slopes, a + k))
        lanes.store(slopes, DIFFERENCE * length + k, change)


@part
def paint_block(
    picture: Any,
    start: int,
    weights: Any,
    slope: Any,
    height: Any,
    most: Any,
    half: Any,
    out: Any,
    at: int,
) -> None:
    """32 bytes: ``(weights * picture + clip(height - |slope|, 0, most)) / 64``, rounded."""
    color = lanes.smaller(lanes.subtract_to_zero(height, lanes.magnitude(slope)), most)
    under = lanes.multiply_high(lanes.widen_crossed(picture, start, half), lanes.load(weights, 0))
    lanes.narrow_crossed(out, at, lanes.right_signed(lanes.add(color, under), 6))


@part
def paint_four(
    picture: Any,
    start: int,
    weights: Any,
    slope: Any,
    change: Any,
    height: Any,
    most: Any,
    half: Any,
    out: Any,
    at: int,
) -> Any:
    """A block in each of four rows, the slope changing from one to the next; the one after."""
    further, on = picture.strides[0], out.strides[0]
    paint_block(picture, start, weights, slope, height, most, half, out, at)
    slope, start, at = lanes.add(slope, change), start + further, at + on
    paint_block(picture, start, weights, slope, height, most, half, out, at)
    slope, start, at = lanes.add(slope, change), start + further, at + on
    paint_block(picture, start, weights, slope, height, most, half, out, at)
    slope, start, at = lanes.add(slope, change), start + further, at + on
    paint_block(picture, start, weights, slope, height, most, half, out, at)
    return lanes.add(slope, change)


@part
def paint_group(
    picture: Any,
    source: int,
    count: int,
    weights: Any,
    slopes: Any,
    base: int,
    fraction: int,
    pace: int,
    height: Any,
    most: Any,
    half: Any,
    out: Any,
    target: int,
) -> None:
    """`count` bytes (a multiple of 32) of 8 rows.

    The slopes of the first are ``base + fraction * difference``; from each row to the next
    ``pace * difference`` is added.
    """
    share, step = lanes.fill(fraction), lanes.fill(pace)
    difference = DIFFERENCE * slopes.shape[1]
    for k in range(0, count, 32):
        change = lanes.load(slopes, difference + k)
        slope = lanes.multiply_high_signed(change, share)
        slope = lanes.add(lanes.load(slopes, base + k), slope)
        change = lanes.multiply_high_signed(change, step)
        start, at = source + k, target + k
        slope = paint_four(picture, start, weights, slope, change, height, most, half, out, at)
        start, at = start + 4 * picture.strides[0], at + 4 * out.strides[0]
        paint_four(picture, start, weights, slope, change, height, most, half, out, at)


@part
def paint_one(
    picture: Any,
    source: int,
    begin: int,
    count: int,
    weights: Any,
    slopes: Any,
    base: int,
    fraction: int,
    pace: int,
    ahead: int,
    height: Any,
    most: Any,
    half: Any,
    out: Any,
    target: int,
    pixels: Any,
) -> None:
    """The bytes `begin` (a multiple of 32) to `count` of the row `ahead` of those of a group."""
    share, step, many = lanes.fill(fraction), lanes.fill(pace), lanes.fill(ahead)
    difference = DIFFERENCE * slopes.shape[1]
    for k in range(begin, count, 32):
        change = lanes.load(slopes, difference + k)
        slope = lanes.multiply_high_signed(change, share)
        slope = lanes.add(lanes.load(slopes, base + k), slope)
        slope = lanes.add(slope, lanes.multiply(lanes.multiply_high_signed(change, step), many))
        if k + 32 <= count:
            start, at = source + k, target + k
            paint_block(picture, start, weights, slope, height, most, half, out, at)
        else:  # the last bytes, so that nothing is read or written behind them
            copy_bytes(picture, source + k, count - k, pixels, 0)
            paint_block(pixels, 0, weights, slope, height, most, half, pixels, 0)
            copy_bytes(pixels, 0, count - k, out, target + k)


@kernel
def overlay_jet(
    values: Any,
    left: float,
    top: float,
    right: float,
    bottom: float,
    background: float,
    picture: Any,
    alpha: float,
    bgr: int,
    first: int,
    last: int,
    out: Any,
    work: Any,
) -> None:
    """Paint the rows first..last of a picture: ``(1 - alpha) * picture + alpha * JET``.

    Args:
        values: the map, float32 [h, w], finite; clipped to [0, 1] before it is enlarged
            bilinearly.
        left, top, right, bottom: where the map lies, in pixels of the picture; a pixel belongs to
            it when its centre does.
        background: the map's value elsewhere, 0 to 1.
        picture: uint8 [H, W, C], gray (C = 1) or RGB (3).
        alpha: the weight of the colours, 0 to 0.5.
        bgr: 1 where blue is the first channel.
        out: uint8 [H, W, 3]; may be the picture.
        work: int64 [7 W + w + 1100], work space.
    """
    h = values.shape[0]
    height, width = picture.shape[0], picture.shape[1]
    x0, x1 = first_inside(left, width), first_inside(right, width)
    y0, y1 = first_inside(top, height), first_inside(bottom, height)
    span, length, columns = width + 128, 3 * width + 384, values.shape[1] + 4
    offsets = lanes.carve_uint16(work, 0, 1, 96)[0]
    shares = lanes.carve_uint16(work, 24, 1, 32)[0]
    pixels, at = lanes.carve_uint8(work, 32, 1, 32)[0], 64
    slopes, at = lanes.carve_uint16(work, at, 4, length), at + length
    weights, at = lanes.carve_float32(work, at, 4, span), at + 2 * span
    row, at = lanes.carve_float32(work, at, 1, span)[0], at + (span + 1) // 2
    levels, at = lanes.carve_uint16(work, at, 1, span)[0], at + (span + 3) // 4
    starts, at = lanes.carve_int32(work, at, 1, span)[0], at + (span + 1) // 2
    edges, at = lanes.carve_int32(work, at, 1, columns)[0], at + (columns + 1) // 2
    spare, at = lanes.carve_float32(work, at, 1, columns)[0], at + (columns + 1) // 2
    rgb = lanes.carve_uint8(work, at, 1, 3 * width)[0]
    place_columns(values.shape[1], left, right, 0, x0, x1, starts, edges, weights)
    scale = 1020.0 * alpha * UNIT
    fill_offsets(alpha, bgr, offsets)
    for k in range(32):
        shares[k] = int((1.0 - alpha) * 16384.0 + 0.5)
    for x in range(levels.shape[0]):
        levels[x] = int(background * scale + 0.5)
    spread_row(levels, offsets, slopes, BACKGROUND * length)
    peak = lanes.fill(int(382.5 * alpha * UNIT + 0.5))
    most = lanes.fill(int(255.0 * alpha * UNIT + 0.5))
    # Half a level, as the part of a picture's level that makes one when it is weighted.
    rounding = min(int(128.0 / (1.0 - alpha) + 0.5), 255)
    half = lanes.fill(rounding | rounding << 8)
    held, pair = starts[width + 64 :], -2
    held[0] = held[1] = -1
    count = 3 * width
    step, pace = GROUP, fraction_of(h / (bottom - top))
    if h / (bottom - top) > 0.5:  # a row of the map has no two of the picture
        step, pace = 1, 0
    y = first
    while y < last:
        begin, end, j = 0, y0, -2
        if y >= y1:
            begin, end = y1, height
        elif y >= y0:
            j = below(position(y, top, bottom, h))
            begin, end = (
                first_row(j, top, bottom, h, y0, y1),
                first_row(j + 1, top, bottom, h, y0, y1),
            )
            if j != pair:
                slope_pair(
                    values, j, scale, starts, edges, weights, x0, x1, spare, row, held, levels,
                    offsets, slopes,
                )  # fmt: skip
                pair = j
        end = min(end, last)
        while y < end:
            group = begin + (y - begin) // step * step
            level, fraction, change = BACKGROUND, 0, 0
            if j > -2:
                level, fraction = nearest_level(position(group, top, bottom, h), j, h)
                change = pace
            base = level * length
            done, rows = 0, min(group + step, end) - y
            if rows == GROUP and picture.shape[2] == 3:
                done = count // 32 * 32
                paint_group(
                    picture, y * picture.strides[0], done, shares, slopes, base, fraction, change,
                    peak, most, half, out, y * out.strides[0],
                )  # fmt: skip
            for i in range(y, y + rows if done < count else y):
                source, target = i * picture.strides[0], i * out.strides[0]
                if picture.shape[2] == 1:
                    to_rgb(picture, source, width, rgb)
                    paint_one(
                        rgb, 0, 0, count, shares, slopes, base, fraction, change, i - group, peak,
                        most, half, out, target, pixels,
                    )  # fmt: skip
                else:
                    paint_one(
                        picture, source, done, count, shares, slopes, base, fraction, change,
                        i - group, peak, most, half, out, target, pixels,
                    )  # fmt: skip
            y += rows
