"""The overlay of OpenCV's JET, computed instead of looked up.

Each channel of JET rises and falls by four levels an index: it is ``382.5 - |4 i - c|`` clipped to
0..255, with c = 765, 510 and 255 for red, green and blue (OpenCV's own heights are 383, 382, 383).
So the rows of the map are kept as ``4 i - c`` of every byte: the slopes. Eight rows of the picture
are painted at once, 64 bytes of each. From one to the next the slopes change by the same amount:
every eighth, fourth or second row, as the map is steep, gets its colours from them, those between
are averages of averages, all in bytes. For that colours must not be clipped before: a byte holds
them from `MARGIN` levels below 0 to as many above 255, in steps of 1.6 levels, and each row clips
its own. That takes 14 instructions for 32 bytes of a row and no lookup.

Colours differ from those of the table by at most 2.5 levels (they are not cut into 256 steps) and
1.5 for what bytes and averages round, both times alpha; the result is within 2 of OpenCV's.

Before, slopes and colours had 16 bits everywhere: 17.7 instructions. In pairs on an AMD Zen 3
(minima of 400; np.copyto 76 us): 1280x720 173 us against 191, 1280x784 180 against 198; 224x224,
for which 7x7 maps are steep, the same. With blocks of 64 bytes and AVX-512 an AMD Zen 5 takes 88 us
for 1280x720 (130 in AVX2, 140 with blocks of 32 bytes; np.copyto 42).

Also tried, here or with 16 bits, without gain: 2, 4 or 16 rows at once; prefetching 512 bytes or
eight rows ahead (up to 40 % more); stores past the caches (four times as long where rows do not
begin at multiples of 64 bytes, as NumPy's); in a prototype in C, every row from a multiple of 32
bytes on, 0 to 8 % less.
"""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import byte_lanes, lanes
from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.jet_rows import DIFFERENCE, paint_group, paint_one
from onnxcam.kernels.map_rows import (
    below,
    first_inside,
    first_row,
    fraction_of,
    largest_change,
    nearest_level,
    place_columns,
    position,
    quantise,
    stretch_row,
)
from onnxcam.kernels.paint_bytes import choose_weights
from onnxcam.kernels.paint_row import to_rgb

UNIT = 32.0  # steps of the slopes to one of a colour's byte
GROUP = 8  # rows painted at once
MARGIN = 72.0  # levels of JET that colours may reach beyond 0 and 255
BACKGROUND = 3  # its place in `slopes`; 0 and 1 are for the map's even and odd rows


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
def fill_offsets(scale: float, bgr: int, offsets: Any) -> None:
    """``c + 2`` of every byte of 32 pixels, in the order of `lanes.thirds`, times `scale`.

    The 2 is half an index: an index is a value without its fraction.
    """
    begin, step = (257.0, 255.0) if bgr else (767.0, -255.0)
    for k in range(96):
        byte = 32 * (k // 32) + lanes.CROSSED[k % 32]
        offsets[k] = int((begin + step * (byte % 3)) * scale + 0.5)


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
def find_reach(pace: float, change: float) -> int:
    """How many rows may lie from one with exact colours to the next: 8, 4, 2, or 1.

    `pace` is how much of a row of the map lies between two of the picture, of which half a one is
    the most that slopes can be moved by; `change` how much the map changes over a whole one.
    """
    reach = GROUP
    while reach > 1 and (reach * pace > 0.5 or 1020.0 * reach * pace * change > MARGIN):
        reach //= 2
    return reach


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
        work: int64 [7 W + w + 1600], work space.
    """
    h = values.shape[0]
    height, width = picture.shape[0], picture.shape[1]
    x0, x1 = first_inside(left, width), first_inside(right, width)
    y0, y1 = first_inside(top, height), first_inside(bottom, height)
    span, columns = (width + 191) // 64 * 64, values.shape[1] + 4  # cache lines of work space
    length = 3 * span
    offsets = lanes.carve_uint16(work, 0, 1, 96)[0]
    pixels, at = lanes.carve_uint8(work, 24, 1, 64)[0], 32
    slopes, at = lanes.carve_uint16(work, at, 4, length), at + length
    weights, at = lanes.carve_float32(work, at, 4, span), at + 2 * span
    row, at = lanes.carve_float32(work, at, 1, span)[0], at + (span + 1) // 2
    levels, at = lanes.carve_uint16(work, at, 1, span)[0], at + (span + 3) // 4
    starts, at = lanes.carve_int32(work, at, 1, span)[0], at + (span + 1) // 2
    edges, at = lanes.carve_int32(work, at, 1, columns)[0], at + (columns + 1) // 2
    spare, at = lanes.carve_float32(work, at, 1, columns)[0], at + (columns + 1) // 2
    rgb = lanes.carve_uint8(work, at, 1, 3 * width)[0]
    place_columns(values.shape[1], left, right, 0, x0, x1, starts, edges, weights)
    w, v, m = choose_weights(alpha, (255.0 + 2.0 * MARGIN) / 252.0)
    ratio = alpha * 32768.0 / (v * m)  # of a colour's byte, to one of its levels
    most = 255.0 * ratio
    low = int((255.0 - most) / 2.0)
    span_of_jet = byte_lanes.fill(int(most + 0.5))
    look = (lanes.fill(w | v << 8), lanes.fill(m), byte_lanes.fill(low), span_of_jet)
    top_of_jet = int((low + 382.5 * ratio) * UNIT + 0.5)
    scale = 1020.0 * ratio * UNIT
    fill_offsets(ratio * UNIT, bgr, offsets)
    for x in range(levels.shape[0]):
        levels[x] = int(background * scale + 0.5)
    spread_row(levels, offsets, slopes, BACKGROUND * length)
    held, pair = starts[width + 64 :], -2
    held[0] = held[1] = -1
    count = 3 * width
    pace = h / (bottom - top)
    step = GROUP if pace <= 0.5 else 1  # `fraction_of` no more than half a row
    reach, y = GROUP, first
    while y < last:
        begin, end, j = 0, y0, -2
        if y >= y1:
            begin, end, reach = y1, height, GROUP
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
                reach = find_reach(pace, largest_change(values, j))
        peak = top_of_jet + 16 // reach  # half of what averages round up, below half a byte
        end = min(end, last)
        while y < end:
            group = begin + (y - begin) // step * step
            level, fraction, change = BACKGROUND, 0, 0
            if j > -2:
                level, fraction = nearest_level(position(group, top, bottom, h), j, h)
                change = fraction_of(pace * reach)
            base = level * length
            done, rows = 0, min(group + step, end) - y
            if y == group and picture.shape[2] == 3:
                done = count // 32 * 32
                source, target = y * picture.strides[0], y * out.strides[0]
                if rows == GROUP:  # compiled for this number of them
                    paint_group(
                        picture, source, GROUP, done, slopes, base, fraction, change, reach, peak,
                        look, out, target,
                    )  # fmt: skip
                else:
                    paint_group(
                        picture, source, rows, done, slopes, base, fraction, change, reach, peak,
                        look, out, target,
                    )  # fmt: skip
            for i in range(y, y + rows if done < count else y):
                source, target = i * picture.strides[0], i * out.strides[0]
                if picture.shape[2] == 1:
                    to_rgb(picture, source, width, rgb)
                    paint_one(
                        rgb, 0, 0, count, slopes, base, fraction, change, reach, i - group, peak,
                        look, out, target, pixels,
                    )  # fmt: skip
                else:
                    paint_one(
                        picture, source, done, count, slopes, base, fraction, change, reach,
                        i - group, peak, look, out, target, pixels,
                    )  # fmt: skip
            y += rows
