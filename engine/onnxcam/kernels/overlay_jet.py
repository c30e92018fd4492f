"""The overlay of OpenCV's JET, computed instead of looked up.

Each channel of JET rises and falls by four levels an index: it is ``382.5 - |4 i - c|`` clipped to
0..255, with c = 765, 510 and 255 for red, green and blue (OpenCV's own heights are 383, 382, 383).
So the rows of the map are kept as ``4 i - c`` of every byte, already multiplied by alpha, and a
row of the picture takes 13 instructions for 16 bytes and no lookup. Colours are not cut into 256
steps; they differ from those of the table by at most 2.5 levels, times alpha.

The bytes at even places are worked on apart from those at odd ones: no byte has to change its
place. Measured against `overlay_colors`: 0.18 instead of 0.42 ns a pixel (AVX2), 0.45 instead of
0.57 (SSE2). With indices cut to whole numbers, 10 % more.
"""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import lanes
from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.map_rows import (
    below,
    first_inside,
    fraction_of,
    place_columns,
    position,
    quantise,
    stretch_row,
)
from onnxcam.kernels.paint_row import copy_bytes, to_rgb

UNIT = 64.0  # steps a level: 4 * 255 * 64 * alpha must stay below 32768, for alpha up to a half
DIFFERENCE, BACKGROUND = 2, 3  # places in `slopes`; 0 and 1 are for the map's even and odd rows


@part
def spread_row(row: Any, offsets: Any, slopes: Any, at: int) -> None:
    """``row - offsets``, every value of `row` at the places of its pixel's three bytes."""
    for x in range(0, row.shape[0] - 63, 64):
        a, b = lanes.load(row, x), lanes.load(row, x + 32)
        k = at + 3 * x
        lanes.store(slopes, k, lanes.subtract(lanes.spread_0(a, b), lanes.load(offsets, 0)))
        lanes.store(slopes, k + 32, lanes.subtract(lanes.spread_1(a, b), lanes.load(offsets, 32)))
        lanes.store(slopes, k + 64, lanes.subtract(lanes.spread_2(a, b), lanes.load(offsets, 64)))
        lanes.store(slopes, k + 96, lanes.subtract(lanes.spread_3(a, b), lanes.load(offsets, 96)))
        lanes.store(slopes, k + 128, lanes.subtract(lanes.spread_4(a, b), lanes.load(offsets, 128)))
        lanes.store(slopes, k + 160, lanes.subtract(lanes.spread_5(a, b), lanes.load(offsets, 160)))


@part
def fill_offsets(alpha: float, bgr: int, offsets: Any) -> None:
    """``c + 2`` of every byte of 64 pixels, in the order of `lanes.thirds`.

    The 2 is half an index: an index is a value without its fraction.
    """
    begin, step = (257.0, 255.0) if bgr else (767.0, -255.0)
    for part_of in range(6):
        for lane in range(32):
            byte = 64 * (part_of // 2) + 2 * lane + part_of % 2
            offsets[32 * part_of + lane] = int((begin + step * (byte % 3)) * alpha * UNIT + 0.5)


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
    slopes: Any,
    base: int,
    difference: int,
    fraction: Any,
    height: Any,
    most: Any,
    out: Any,
    at: int,
) -> None:
    """64 bytes: ``(weights * picture + clip(height - |slope|, 0, most)) / 64``, rounded."""
    half, high = lanes.fill(32), lanes.fill(-256)
    moved = lanes.multiply_high_signed(lanes.load(slopes, difference), fraction)
    even = lanes.magnitude(lanes.add(lanes.load(slopes, base), moved))
    moved = lanes.multiply_high_signed(lanes.load(slopes, difference + 32), fraction)
    odd = lanes.magnitude(lanes.add(lanes.load(slopes, base + 32), moved))
    even = lanes.add(lanes.smaller(lanes.subtract_to_zero(height, even), most), half)
    odd = lanes.add(lanes.smaller(lanes.subtract_to_zero(height, odd), most), half)
    pairs = lanes.load_pairs(picture, start)
    weight = lanes.load(weights, 0)
    even = lanes.add(even, lanes.multiply_high(lanes.left(pairs, 8), weight))
    odd = lanes.add(odd, lanes.multiply_high(lanes.both(pairs, high), weight))
    even, odd = lanes.right(even, 6), lanes.both(lanes.left(odd, 2), high)
    lanes.store_pairs(out, at, lanes.either(even, odd))


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
    offsets = lanes.carve_uint16(work, 0, 1, 192)[0]
    shares = lanes.carve_uint16(work, 48, 1, 32)[0]
    pixels, at = lanes.carve_uint8(work, 56, 1, 64)[0], 64
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
    held, pair = starts[width + 64 :], -2
    held[0] = held[1] = -1
    whole = 3 * width // 64 * 64
    for y in range(first, last):
        base, fraction = BACKGROUND * length, 0
        if y0 <= y < y1:
            v = position(y, top, bottom, h)
            j = below(v)
            if j != pair:
                slope_pair(
                    values, j, scale, starts, edges, weights, x0, x1, spare, row, held, levels,
                    offsets, slopes,
                )  # fmt: skip
                pair = j
            if v - j < 0.5:
                base, fraction = max(j, 0) % 2 * length, fraction_of(v - j)
            else:
                base, fraction = min(j + 1, h - 1) % 2 * length, fraction_of(v - j - 1.0)
        share, change = lanes.fill(fraction), DIFFERENCE * length
        source, target = y * picture.strides[0], y * out.strides[0]
        if picture.shape[2] == 1:
            to_rgb(picture, source, width, rgb)
            for k in range(0, whole, 64):
                paint_block(
                    rgb, k, shares, slopes, base + k, change + k, share, peak, most, out, target + k
                )
            copy_bytes(rgb, whole, 3 * width - whole, pixels, 0)
        else:
            for k in range(0, whole, 64):
                paint_block(
                    picture, source + k, shares, slopes, base + k, change + k, share, peak, most,
                    out, target + k,
                )  # fmt: skip
            copy_bytes(picture, source + whole, 3 * width - whole, pixels, 0)
        if whole < 3 * width:  # the last bytes, so that nothing is read or written behind them
            k = whole
            paint_block(
                pixels, 0, shares, slopes, base + k, change + k, share, peak, most, pixels, 0
            )
            copy_bytes(pixels, 0, 3 * width - whole, out, target + whole)
