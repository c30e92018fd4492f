"""From the map to the painted picture, 64 pixels at once; for processors that `lookups` suit."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import lookups
from onnxcam.kernels._inline import part
from onnxcam.kernels.paint_bytes import ADD, COVER, MIX, block
from onnxcam.kernels.pick_at_once import indices_of, look_up, three_tables


@part
def blocks_at_once(
    picture: Any,
    start: int,
    count: int,
    levels: Any,
    base: int,
    difference: int,
    share: Any,
    tables: Any,
    blend: int,
    look: Any,
    out: Any,
    at: int,
) -> None:
    """As `paint_at_once`, whose loop this is."""
    red, green, blue = three_tables(tables)
    for x in range(0, count, 64):
        i = indices_of(levels, base + x, difference + x, share)
        r, g, b = look_up(red, i), look_up(green, i), look_up(blue, i)
        k, j = start + 3 * x, at + 3 * x
        block(picture, k, lookups.interleave_0(r, g, b), blend, 3, look, 0, out, j)
        block(picture, k + 64, lookups.interleave_1(r, g, b), blend, 3, look, 0, out, j + 64)
        block(picture, k + 128, lookups.interleave_2(r, g, b), blend, 3, look, 0, out, j + 128)


@part
def paint_at_once(
    picture: Any,
    start: int,
    count: int,
    levels: Any,
    base: int,
    difference: int,
    share: Any,
    tables: Any,
    blend: int,
    look: Any,
    out: Any,
    at: int,
) -> None:
    """`count` pixels (a multiple of 64) of three channels, from the map to the painted picture.

    Nothing in between goes through memory; for processors that look up 64 indices at once.
    """
    if blend == MIX:
        blocks_at_once(
            picture, start, count, levels, base, difference, share, tables, MIX, look, out, at
        )
    elif blend == ADD:
        blocks_at_once(
            picture, start, count, levels, base, difference, share, tables, ADD, look, out, at
        )
    else:
        blocks_at_once(
            picture, start, count, levels, base, difference, share, tables, COVER, look, out, at
        )
