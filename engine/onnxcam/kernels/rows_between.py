"""Rows whose colours lie between those of two others: where that is allowed, and painting them.

Only every fourth or eighth row gets its colours looked up where those between may be interpolated:
where the map changes so little from row to row, and the table bends so little over as many indices
(`fits`), that no colour is more than 1.8 levels off, weighted by alpha; rounding included, the
result stays within 2 of OpenCV's. That is so for smooth tables (viridis, plasma, magma, gray), not
at alpha 0.4 for steep ones (turbo and inferno have steps of 8 and 5 levels an index); noise, stairs
and kinks are looked up in every row.

To find that out takes 10 us, which a picture of 224x224 does not gain. Painting is 55 % of the time
of such a picture, a third are the lookups (1280x720 on an AMD Zen 3, 320 us). A quarter and an
eighth of a change are shifts: multiplied by a constant, which LLVM does 32 bits wide, they took 8 %
more; another pass over looked-up colours, to put them into the order `CROSSED`, 6 %; sixteen rows
at once 8 % (as many streams to memory). In bytes, as in `paint_bytes`, averages would round too
much for viridis to be within the tolerance. Eights of 16 bytes (`byte_lanes.widen_lower`) instead
of an order of 32 bytes: AVX-512 needs no permutation, 117 us instead of 160.
"""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import lanes
from onnxcam.kernels._inline import part
from onnxcam.kernels.map_rows import fraction_of
from onnxcam.kernels.paint_row import (
    added,
    copy_bytes,
    load_block,
    load_eights,
    mix_eights,
    store_block,
)

TOLERANCE = 115  # 1.8 levels: with what both round, less than 3 from OpenCV's whole numbers
SPAN = 16  # indices from one exact colour to the next


@part
def fits(entries: Any, span: int, found: Any) -> bool:
    """Whether colours may be interpolated between any two that are `span` indices apart.

    At the index i + m the straight line from the colour of i to that of i + span has to be within
    the tolerance of the table's own, and at i + m - 1 and i + m + 1 too: the map lies between two
    indices, and so do its ends.
    """
    most, last = lanes.fill(0), 256 - span - 8
    for m in range(span + 1):
        for at in (max(m - 1, 0), min(m + 1, span)):
            near = 0 if 2 * at < span else span
            share = lanes.fill(fraction_of((at - near) / span))
            for x in range(0, last + 8, 8):
                i = min(x, last)
                low, high = lanes.load_8(entries, i), lanes.load_8(entries, i + span)
                moved = lanes.multiply_high_signed(lanes.subtract(high, low), share)
                line = lanes.add(lanes.load_8(entries, i + near), moved)
                off = lanes.subtract(line, lanes.load_8(entries, i + m))
                most = lanes.larger(most, lanes.magnitude(off))
    lanes.store(found, 0, most)
    worst = 0
    for k in range(32):
        worst = max(worst, int(found[k]))
    return worst <= TOLERANCE


@part
def find_reach(step: float, entries: Any, found: Any, tries: Any) -> int:
    """How many rows may lie from one with exact colours to the next: 1, 4 or 8.

    From row to row the map changes by `step` indices at most. ``tries[0]`` is the largest span
    that is known to fit, ``tries[1]`` the largest one that was tried.
    """
    reach = 1
    for rows in (4, 8):
        span = int(rows * step + 0.1) + 1
        if span > SPAN:
            break
        while tries[1] < span and tries[0] == tries[1]:
            tries[1] += 1
            if fits(entries, int(tries[1]), found):
                tries[0] += 1
        if span > tries[0]:
            break
        reach = rows
    return reach


@part
def paint_block(
    picture: Any, start: int, weights: Any, color: Any, half: int, out: Any, at: int
) -> None:
    """64 bytes, or with `half` 32: ``(weights * picture + color) / 64``; here and below.

    `weights` begins with those of 32 bytes, the same ones over and over; they are loaded here for
    the sake of `lanes.multiply_high`. `color` is in two parts: lower and upper eights.
    """
    share = lanes.load(weights, 0)
    under = load_block(picture, start, half)
    store_block(out, at, half, mix_eights(under, (share, share), color))


@part
def paint_four(
    picture: Any, start: int, weights: Any, color: Any, change: Any, half: int, out: Any, at: int
) -> Any:
    """A block in each of four rows, the colour changing from one to the next; the one after."""
    further, on = picture.strides[0], out.strides[0]
    paint_block(picture, start, weights, color, half, out, at)
    color, start, at = added(color, change), start + further, at + on
    paint_block(picture, start, weights, color, half, out, at)
    color, start, at = added(color, change), start + further, at + on
    paint_block(picture, start, weights, color, half, out, at)
    color, start, at = added(color, change), start + further, at + on
    paint_block(picture, start, weights, color, half, out, at)
    return added(color, change)


@part
def start_and_change(ends: Any, top: int, bottom: int, bits: int) -> tuple[Any, Any]:
    """The colours at `top`, and by how much they change in each of ``2^bits`` rows to `bottom`."""
    color, end = load_eights(ends, top), load_eights(ends, bottom)
    change = (
        lanes.right_signed(lanes.subtract(end[0], color[0]), bits),
        lanes.right_signed(lanes.subtract(end[1], color[1]), bits),
    )
    return color, change


@part
def paint_column(
    picture: Any,
    start: int,
    weights: Any,
    ends: Any,
    top: int,
    bottom: int,
    rows: int,
    half: int,
    out: Any,
    at: int,
) -> None:
    """A block in each of 4 or 8 rows."""
    color, change = start_and_change(ends, top, bottom, 2 if rows == 4 else 3)
    color = paint_four(picture, start, weights, color, change, half, out, at)
    if rows == 8:
        start, at = start + 4 * picture.strides[0], at + 4 * out.strides[0]
        paint_four(picture, start, weights, color, change, half, out, at)


@part
def paint_between(
    picture: Any,
    source: int,
    count: int,
    weights: Any,
    ends: Any,
    top: int,
    bottom: int,
    rows: int,
    out: Any,
    target: int,
) -> None:
    """`count` bytes (a multiple of 32) of 4 or 8 rows, from the colours `top` to `bottom`."""
    whole = count // 64 * 64
    if rows == 4:
        for k in range(0, whole, 64):
            paint_column(
                picture, source + k, weights, ends, top + k, bottom + k, 4, 0, out, target + k
            )
    else:
        for k in range(0, whole, 64):
            paint_column(
                picture, source + k, weights, ends, top + k, bottom + k, 8, 0, out, target + k
            )
    if whole < count:
        paint_column(
            picture, source + whole, weights, ends, top + whole, bottom + whole, rows, 1, out,
            target + whole,
        )  # fmt: skip


@part
def paint_one(
    picture: Any,
    source: int,
    begin: int,
    count: int,
    weights: Any,
    ends: Any,
    top: int,
    bottom: int,
    rows: int,
    ahead: int,
    out: Any,
    target: int,
    tail: Any,
) -> None:
    """The bytes `begin` (a multiple of 32) to `count` of row `ahead` of those of a group."""
    bits, many = 2 if rows == 4 else 3, lanes.fill(ahead)
    for k in range(begin, count, 64):
        color, change = start_and_change(ends, top + k, bottom + k, bits)
        passed = lanes.multiply(change[0], many), lanes.multiply(change[1], many)
        color = added(color, passed)
        if k + 64 <= count:
            paint_block(picture, source + k, weights, color, 0, out, target + k)
        else:
            copy_bytes(picture, source + k, count - k, tail, 0)
            paint_block(tail, 0, weights, color, 0, tail, 0)
            copy_bytes(tail, 0, count - k, out, target + k)
