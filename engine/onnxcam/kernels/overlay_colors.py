"""The overlay of any 256 colours: map and picture in, painted picture out, in one pass.

Of a row first the index of each pixel (the map between two of its rows, 32 pixels at once), then
its colour (one load and one store a pixel), then the blend, 64 bytes at once; in strips, so that
what lies between stays in the fastest cache. Colours are bytes (`paint_bytes`), or where that would
show, and where their weight changes with the map, numbers of 16 bits (`paint_row`).

The lookups are most of that. So only every fourth or eighth row gets them where the colours between
may be interpolated (`rows_between`).

With AVX2, a 7x7 map of noise on a Sapphire Rapids (minima; np.copyto 190 us, 1750): 1280x720 436 us
looked up (518 in 16 bits), 354 interpolated; 3840x2160 3830 (4510), 2640. Tried instead for the
lookups: eight indices to a load, 5 % less; indices in float32, 20 % more; half of a row's blend
between the lookups of the other, 10 % less here and twice as much elsewhere.

A processor that looks up 64 indices at once (`lookups`) goes from the map to the painted picture in
registers (`paint_at_once`). AMD Zen 5 (np.copyto 42 us, 910): 1280x720 110 us looked up (285 in
AVX2), 117 interpolated (170); 3840x2160 1250 (2770), 1760 (1850). Interpolating gains nothing more
there, but what comes out must not depend on the processor. The tables of 256 bytes, in registers
and from whole cache lines, were half of that gain: loaded for every 64 pixels, 146 us.
"""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import byte_lanes, lanes, lookups
from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.map_rows import (
    below,
    enlarged_row,
    first_inside,
    first_row,
    largest_change,
    nearest_level,
    place_columns,
    position,
    quantise,
    stretch_row,
)
from onnxcam.kernels.paint_at_once import paint_at_once
from onnxcam.kernels.paint_bytes import (
    ADD,
    COVER,
    FOLLOW,
    LARGEST_ALPHA,
    MIX,
    fill_bytes,
    paint_colored,
    pick_bytes,
    weigh,
)
from onnxcam.kernels.paint_row import paint_row, to_rgb
from onnxcam.kernels.pick_at_once import indices_of
from onnxcam.kernels.pick_words import fill_entries, pick
from onnxcam.kernels.rows_between import find_reach, paint_between, paint_one

STRIP = 512  # pixels; its work space is 10 KB
COLORS = 4 * STRIP + 64  # lanes of a strip, and what may be written or read behind them
SCALE = 255.0 * 128.0  # rows of the map that indices are made from are in 128ths of an index
DIFFERENCE, BACKGROUND = 2, 3  # places in `levels`; 0 and 1 are for the map's even and odd rows
WORTH_GROUPS = 1 << 17  # pixels: with fewer, to find out where to interpolate takes as long
ROWS_OF_PAIR = 12  # likewise, from one row of the map to the next


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
    """The indices of `count` pixels (and of up to 63 more); see `indices_of`."""
    share = lanes.fill(fraction)
    for x in range(0, count, 64):
        byte_lanes.store(out, x, indices_of(levels, base + x, difference + x, share))


@part
def color_row(
    levels: Any,
    base: int,
    fraction: int,
    width: int,
    channels: int,
    entries: Any,
    tables: Any,
    indices: Any,
    ends: Any,
    at: int,
) -> None:
    """The colours of one row at ``ends[at]`` and so on."""
    length = levels.shape[1]
    for x in range(0, width, STRIP):
        count = min(STRIP, width - x)
        find_indices(levels, base * length + x, DIFFERENCE * length + x, fraction, count, indices)
        pick(indices, count, entries, tables, 0, channels, ends, at + x * channels)


@part
def paint_looked_up(
    picture: Any,
    y: int,
    levels: Any,
    base: int,
    fraction: int,
    entries: Any,
    tables: Any,
    blend: int,
    look: Any,
    indices: Any,
    colors: Any,
    rgb: Any,
    out: Any,
    tail: Any,
) -> None:
    """The row y, every pixel's colour looked up, in bytes; see `paint_colored`."""
    width, channels, length = picture.shape[1], out.shape[2], levels.shape[1]
    source, target = y * picture.strides[0], y * out.strides[0]
    done = 0
    if lookups.at_once() and picture.shape[2] == 3:
        done = width // 64 * 64
        paint_at_once(
            picture, source, done, levels, base * length, DIFFERENCE * length, lanes.fill(fraction),
            tables, blend, look, out, target,
        )  # fmt: skip
    for x in range(done, width, STRIP):
        count = min(STRIP, width - x)
        find_indices(levels, base * length + x, DIFFERENCE * length + x, fraction, count, indices)
        pick_bytes(indices, count, entries, tables, channels, colors)
        n, k = count * channels, x * channels
        if picture.shape[2] == 1:
            to_rgb(picture, source + x, count, rgb)
            paint_colored(rgb, 0, n, colors, blend, 3, look, out, target + k, tail)
        else:
            paint_colored(
                picture, source + k, n, colors, blend, channels, look, out, target + k, tail
            )


@part
def paint_exact(
    picture: Any,
    y: int,
    levels: Any,
    base: int,
    fraction: int,
    entries: Any,
    tables: Any,
    follow: bool,
    indices: Any,
    colors: Any,
    shares: Any,
    rgb: Any,
    out: Any,
    tail: Any,
) -> None:
    """The row y, every pixel's colour looked up; with `follow` its weight, too."""
    width, channels, length = picture.shape[1], out.shape[2], levels.shape[1]
    source, target, step = y * picture.strides[0], y * out.strides[0], int(follow)
    for x in range(0, width, STRIP):
        count = min(STRIP, width - x)
        find_indices(levels, base * length + x, DIFFERENCE * length + x, fraction, count, indices)
        pick(indices, count, entries, tables, 0, channels, colors, 0)
        if follow:
            pick(indices, count, entries, tables, 256, channels, shares, 0)
        n, k = count * channels, x * channels
        if picture.shape[2] == 1:
            to_rgb(picture, source + x, count, rgb)
            paint_row(rgb, 0, n, shares, step, colors, out, target + k, tail)
        else:
            paint_row(picture, source + k, n, shares, step, colors, out, target + k, tail)


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
        work: int64 [8 W + w + 4500], work space.
    """
    h = values.shape[0]
    height, width, channels = picture.shape[0], picture.shape[1], out.shape[2]
    x0, x1 = first_inside(left, width), first_inside(right, width)
    y0, y1 = first_inside(top, height), first_inside(bottom, height)
    length, columns = (width + 191) // 64 * 64, values.shape[1] + 4
    entries, at = work[0:512], 512
    colors, at = lanes.carve_uint16(work, at, 1, COLORS)[0], at + COLORS // 4
    shares, at = lanes.carve_uint16(work, at, 1, COLORS)[0], at + COLORS // 4
    indices, at = lanes.carve_uint8(work, at, 1, STRIP)[0], at + STRIP // 8
    tail, at = lanes.carve_uint8(work, at, 1, 64)[0], at + 8
    tables, at = lanes.carve_uint8(work, at, 1, 3 * 256)[0], at + 96
    wide, at = lanes.carve_uint8(work, at, 1, 12 * 256)[0], at + 384
    found, at = lanes.carve_uint16(work, at, 1, 32)[0], at + 8
    tries, at = lanes.carve_uint16(work, at, 1, 4)[0], at + 8
    rgb, at = lanes.carve_uint8(work, at, 1, 3 * STRIP)[0], at + 3 * STRIP // 8
    small, at = lanes.carve_int32(work, at, 1, 256)[0], at + 128
    picked, at = lanes.carve_uint8(work, at, 1, 4 * STRIP + 64)[0], at + STRIP // 2 + 8
    weights, at = lanes.carve_float32(work, at, 4, length), at + 2 * length
    rows_of, at = lanes.carve_float32(work, at, 5, length), at + (5 * length + 1) // 2
    levels, at = lanes.carve_uint16(work, at, 4, length), at + length
    ends, at = lanes.carve_uint16(work, at, 2, 4 * length), at + 2 * length
    starts, at = lanes.carve_int32(work, at, 1, length)[0], at + (length + 1) // 2
    edges, at = lanes.carve_int32(work, at, 1, columns)[0], at + (columns + 1) // 2
    spare = lanes.carve_float32(work, at, 1, columns)[0]
    place_columns(values.shape[1], left, right, bicubic, x0, x1, starts, edges, weights)
    count, pace, size = width * channels, h / (bottom - top), ends.shape[1]
    grouped = (
        not bicubic
        and blend != FOLLOW
        and picture.shape[2] == channels
        and width * height >= WORTH_GROUPS
        and pace * ROWS_OF_PAIR <= 1.0
    )
    ratio, look = weigh(alpha, blend)
    in_bytes = blend in (ADD, COVER) or (blend == MIX and alpha <= LARGEST_ALPHA)
    if in_bytes:
        fill_bytes(table, ratio, small, tables)
    if grouped or not in_bytes:
        fill_entries(table, alpha, blend, int(background * 255.0), entries, wide)
        for k in range(32):
            lanes.copy_entry(entries, 256, shares, k // channels * channels)
    for x in range(length):
        levels[BACKGROUND, x] = int(background * SCALE + 0.5)
        levels[0, x] = levels[BACKGROUND, x]
        levels[1, x] = levels[BACKGROUND, x]
    held, pair = starts[width + 64 :], -2
    for k in range(4):
        held[k] = -1
    tries[0] = tries[1] = 0
    reach, held_row, which = 1, -1, 0
    y = first
    while y < last:
        base, fraction, group, rows = BACKGROUND, 0, y, 1
        if y0 <= y < y1:
            v = position(y, top, bottom, h)
            j = below(v)
            if bicubic:
                enlarged_row(
                    values, v, 1, starts, edges, weights, x0, x1, spare, rows_of, held, rows_of[4]
                )
                quantise(rows_of[4], SCALE, x0, x1, levels[0])
                base = 0
            else:
                base, fraction = nearest_level(v, j, h)
            if j != pair and not bicubic:
                level_pair(
                    values, j, starts, edges, weights, x0, x1, spare, rows_of[4], held, levels
                )
                pair, held_row, reach = j, -1, 1
                if grouped:
                    reach = find_reach(
                        255.0 * pace * largest_change(values, j), entries, found, tries
                    )
            if reach > 1:
                begin = first_row(j, top, bottom, h, y0, y1)
                end = first_row(j + 1, top, bottom, h, y0, y1)
                group, rows = begin + (y - begin) // reach * reach, reach
                # The row after a group's last has to be one of the same pair of rows, too.
                while rows >= 4 and (group + rows >= end or y >= group + rows):
                    if group + rows < end:
                        group += rows
                    else:
                        rows //= 2
        if rows >= 4:
            if held_row != group:
                base, fraction = nearest_level(position(group, top, bottom, h), j, h)
                color_row(
                    levels, base, fraction, width, channels, entries, wide, indices, ends,
                    which * size,
                )  # fmt: skip
            held_row = group + rows
            base, fraction = nearest_level(position(held_row, top, bottom, h), j, h)
            color_row(
                levels, base, fraction, width, channels, entries, wide, indices, ends,
                (1 - which) * size,
            )  # fmt: skip
            above, under = which * size, (1 - which) * size
            which, done, end = 1 - which, 0, min(held_row, last)
            if y == group and end == held_row:
                done = count // 32 * 32
                paint_between(
                    picture, y * picture.strides[0], done, shares, ends, above, under, rows, out,
                    y * out.strides[0],
                )  # fmt: skip
            for i in range(y, end if done < count else y):
                paint_one(
                    picture, i * picture.strides[0], done, count, shares, ends, above, under, rows,
                    i - group, out, i * out.strides[0], tail,
                )  # fmt: skip
            y = end
            continue
        if in_bytes:
            paint_looked_up(
                picture, y, levels, base, fraction, small, tables, blend, look, indices, picked,
                rgb, out, tail,
            )  # fmt: skip
        else:
            paint_exact(
                picture, y, levels, base, fraction, entries, wide, blend == FOLLOW, indices,
                colors, shares, rgb, out, tail,
            )  # fmt: skip
        y += 1
