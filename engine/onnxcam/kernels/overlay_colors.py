"""The overlay of any 256 colours: map and picture in, painted picture out, in one pass.

Of every row first the index of each pixel (the map between two of its rows, 32 pixels at once),
then its colour, already multiplied by its weight (one load and one store of 8 bytes a pixel), then
the blend, 32 bytes at once; in strips, so that what lies between stays in the fastest cache.

Tried instead, at 1280x720 with AVX2 (nanoseconds a pixel; this is 0.42, np.copyto of the picture
0.07 from the cache to 0.24 from memory): 4-byte entries, two pixels to a store, and a second
multiplication in the blend, 0.42; eight indices to a load, 0.40; indices in float32, 0.50; half of
a row's blend between the lookups of the other, 0.38 here and 0.87 elsewhere. Colours interpolated
between exact rows would be faster, but are wrong by several levels on steep maps.
"""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import lanes
from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.map_rows import (
    below,
    enlarged_row,
    first_inside,
    fraction_of,
    place_columns,
    position,
    quantise,
    stretch_row,
)
from onnxcam.kernels.paint_row import paint_row, to_rgb

STRIP = 512  # pixels; its work space is 10 KB
COLORS = 4 * STRIP + 36  # lanes of a strip, and what may be written or read behind them
SCALE = 255.0 * 128.0  # rows of the map that indices are made from are in 128ths of an index
DIFFERENCE, BACKGROUND = 2, 3  # places in `levels`; 0 and 1 are for the map's even and odd rows

# What `blend` says.
MIX, ADD, FOLLOW, COVER = 0, 1, 2, 3


@part
def fill_entries(table: Any, alpha: float, blend: int, zero: int, entries: Any) -> None:
    """Colour times weight in 128ths, four of 16 bits an entry; then the picture's weights.

    The fourth is for pictures with an alpha channel, which is kept.
    """
    for i in range(256):
        weight = 1.0 if blend == COVER else alpha
        if blend == FOLLOW:
            weight = alpha * abs(i - zero) / max(zero, 255 - zero)
        rest = 32768 if blend == ADD else int((1.0 - weight) * 32768.0 + 0.5)
        color = 64 << 48
        for c in range(3):
            color |= (int(int(table[i, c]) * weight * 128.0 + 0.5) + 64) << (16 * c)
        entries[i] = color
        entries[256 + i] = rest | rest << 16 | rest << 32 | -32768 << 48


@part
def level_pair(
    values: Any,
    j: int,
    starts: Any,
    edges: Any,
    weights: Any,
    first: int,
    last: int,
    spare: Any,
    row: Any,
    held: Any,
    levels: Any,
) -> None:
    """The map's rows j and j + 1 (within the map) in `levels`, and their difference."""
    lower, upper = max(j, 0), min(j + 1, values.shape[0] - 1)
    for i in range(lower, upper + 1):
        if held[i % 2] != i:
            stretch_row(values[i], 0, starts, edges, weights, first, last, spare, row)
            quantise(row, SCALE, first, last, levels[i % 2])
            held[i % 2] = i
    length = levels.shape[1]
    a, b = lower % 2 * length, upper % 2 * length
    for x in range(0, length - 31, 32):
        change = lanes.subtract(lanes.load(levels, b + x), lanes.load(levels, a + x))
        lanes.store(levels, DIFFERENCE * length + x, change)


@part
def find_indices(
    levels: Any, base: int, difference: int, fraction: int, count: int, out: Any
) -> None:
    """``levels[base] + fraction * levels[difference]`` and so on, without its 128ths."""
    share = lanes.fill(fraction)
    for x in range(0, count, 32):
        moved = lanes.multiply_high_signed(lanes.load(levels, difference + x), share)
        value = lanes.add(lanes.load(levels, base + x), moved)
        lanes.store_clipped(out, x, lanes.right(value, 7))


@part
def pick(indices: Any, count: int, entries: Any, first: int, channels: int, out: Any) -> None:
    """The entries of `count` indices, one behind the other."""
    for x in range(count):
        lanes.copy_entry(entries, first + int(indices[x]), out, channels * x)


@kernel
def overlay_colors(
    values: Any,
    left: float,
    top: float,
    right: float,
    bottom: float,
    background: float,
    picture: Any,
    table: Any,
    alpha: float,
    blend: int,
    bicubic: int,
    first: int,
    last: int,
    out: Any,
    work: Any,
) -> None:
    """Paint the rows first..last of a picture.

    Args:
        values: the map, float32 [h, w], finite; clipped to [0, 1] before it is enlarged.
        left, top, right, bottom: where the map lies, in pixels of the picture; a pixel belongs to
            it when its centre does.
        background: the map's value elsewhere, 0 to 1.
        picture: uint8 [H, W, C], gray (C = 1), RGB (3), or RGBA (4).
        table: uint8 [256, 3]; the index is ``255 * value`` without its fraction.
        alpha: the weight of the colours, 0 to 1.
        blend: 0 ``(1 - alpha) * picture + alpha * colour``; 1 ``picture + alpha * colour``, at
            most 255; 2 as 0 with ``alpha * index / 255`` for alpha (with a background b the
            distance of the index from that of b, divided by the largest one); 3 the colour alone.
        bicubic: 1 for bicubic enlarging, 0 for bilinear.
        out: uint8 [H, W, 3], or [H, W, 4] for RGBA, alpha as in the picture; may be the picture.
        work: int64 [6 W + w + 2700], work space.
    """
    h = values.shape[0]
    height, width, channels = picture.shape[0], picture.shape[1], out.shape[2]
    x0, x1 = first_inside(left, width), first_inside(right, width)
    y0, y1 = first_inside(top, height), first_inside(bottom, height)
    length, columns = width + 128, values.shape[1] + 4
    entries, at = work[0:512], 512
    colors, at = lanes.carve_uint16(work, at, 1, COLORS)[0], at + COLORS // 4
    shares, at = lanes.carve_uint16(work, at, 1, COLORS)[0], at + COLORS // 4
    indices, at = lanes.carve_uint8(work, at, 1, STRIP)[0], at + STRIP // 8
    tail, at = lanes.carve_uint8(work, at, 1, 32)[0], at + 4
    rgb, at = lanes.carve_uint8(work, at, 1, 3 * STRIP)[0], at + 3 * STRIP // 8
    weights, at = lanes.carve_float32(work, at, 4, length), at + 2 * length
    rows, at = lanes.carve_float32(work, at, 5, length), at + (5 * length + 1) // 2
    levels, at = lanes.carve_uint16(work, at, 4, length), at + length
    starts, at = lanes.carve_int32(work, at, 1, length)[0], at + (length + 1) // 2
    edges, at = lanes.carve_int32(work, at, 1, columns)[0], at + (columns + 1) // 2
    spare = lanes.carve_float32(work, at, 1, columns)[0]
    place_columns(values.shape[1], left, right, bicubic, x0, x1, starts, edges, weights)
    fill_entries(table, alpha, blend, int(background * 255.0), entries)
    for k in range(32):
        lanes.copy_entry(entries, 256, shares, k // channels * channels)
    for x in range(length):
        levels[BACKGROUND, x] = int(background * SCALE + 0.5)
        levels[0, x] = levels[BACKGROUND, x]
        levels[1, x] = levels[BACKGROUND, x]
    held, pair = starts[width + 64 :], -2
    for k in range(4):
        held[k] = -1
    for y in range(first, last):
        base, fraction = BACKGROUND, 0
        if y0 <= y < y1:
            v = position(y, top, bottom, h)
            j = below(v)
            if bicubic:
                enlarged_row(
                    values, v, 1, starts, edges, weights, x0, x1, spare, rows, held, rows[4]
                )
                quantise(rows[4], SCALE, x0, x1, levels[0])
                base = 0
            elif v - j < 0.5:
                base, fraction = max(j, 0) % 2, fraction_of(v - j)
            else:
                base, fraction = min(j + 1, h - 1) % 2, fraction_of(v - j - 1.0)
            if j != pair and not bicubic:
                level_pair(values, j, starts, edges, weights, x0, x1, spare, rows[4], held, levels)
                pair = j
        source, target = y * picture.strides[0], y * out.strides[0]
        for x in range(0, width, STRIP):
            count = min(STRIP, width - x)
            find_indices(
                levels, base * length + x, DIFFERENCE * length + x, fraction, count, indices
            )
            step = 1 if blend == FOLLOW else 0
            if channels == 3:  # a constant: 20 % less for the loop
                pick(indices, count, entries, 0, 3, colors)
                if step:
                    pick(indices, count, entries, 256, 3, shares)
            else:
                pick(indices, count, entries, 0, 4, colors)
                if step:
                    pick(indices, count, entries, 256, 4, shares)
            n, k = count * channels, x * channels
            if picture.shape[2] == 1:
                to_rgb(picture, source + x, count, rgb)
                paint_row(rgb, 0, n, shares, step, colors, out, target + k, tail)
            else:
                paint_row(picture, source + k, n, shares, step, colors, out, target + k, tail)
