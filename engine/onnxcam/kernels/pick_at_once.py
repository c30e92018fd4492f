"""Colours of 64 pixels at once, from tables of bytes: see `lookups`."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import byte_lanes, lanes, lookups
from onnxcam.kernels._inline import part
from onnxcam.kernels.byte_lanes import WIDTH
from onnxcam.kernels.lanes import LANES

TABLE = 256


@part
def quarters(tables: Any, at: int) -> Any:
    """The table that begins at the element `at`."""
    return (
        byte_lanes.load(tables, at),
        byte_lanes.load(tables, at + WIDTH),
        byte_lanes.load(tables, at + 2 * WIDTH),
        byte_lanes.load(tables, at + 3 * WIDTH),
    )


@part
def look_up(table: Any, indices: Any) -> Any:
    """The bytes of 64 indices, from the quarters of a table."""
    return lookups.chosen(indices, table[0], table[1], table[2], table[3])


@part
def split_entries(entries: Any, first: int, parts: int, size: int, tables: Any, at: int) -> None:
    """The 256 entries from `first` on as tables of bytes: the `parts` of each, `size` bits apart.

    Of entries of three numbers of 16 bits first the lower bytes, then the upper ones.
    """
    for k in range(parts):
        shift = k % 3 * size + k // 3 * 8
        for i in range(TABLE):
            tables[at + TABLE * k + i] = entries[first + i] >> shift & 255


@part
def indices_of(levels: Any, at: int, difference: int, share: Any) -> Any:
    """``(levels[at] + share * levels[difference]) / 128``, of 64 numbers, as bytes."""
    low = lanes.multiply_high_signed(lanes.load(levels, difference), share)
    high = lanes.multiply_high_signed(lanes.load(levels, difference + LANES), share)
    low = lanes.add(lanes.load(levels, at), low)
    high = lanes.add(lanes.load(levels, at + LANES), high)
    return byte_lanes.clipped(lanes.right(low, 7), lanes.right(high, 7))


@part
def three_tables(tables: Any) -> Any:
    """The tables of red, green and blue, one behind the other."""
    return quarters(tables, 0), quarters(tables, TABLE), quarters(tables, 2 * TABLE)


@part
def pick_bytes_at_once(places: Any, count: int, tables: Any, out: Any) -> None:
    """The colours of `count` indices (and of up to 63 more), from three tables of bytes."""
    red, green, blue = three_tables(tables)
    for x in range(0, count, WIDTH):
        i = byte_lanes.load(places, x)
        r, g, b = look_up(red, i), look_up(green, i), look_up(blue, i)
        byte_lanes.store(out, 3 * x, lookups.interleave_0(r, g, b))
        byte_lanes.store(out, 3 * x + WIDTH, lookups.interleave_1(r, g, b))
        byte_lanes.store(out, 3 * x + 2 * WIDTH, lookups.interleave_2(r, g, b))


@part
def store_words(low: Any, high: Any, out: Any, at: int) -> None:
    """64 numbers of 16 bits."""
    lanes.store(out, at, lookups.words_0(low, high))
    lanes.store(out, at + LANES, lookups.words_1(low, high))


@part
def pick_words_at_once(places: Any, count: int, tables: Any, first: int, out: Any, at: int) -> None:
    """The same in 16 bits, from six tables."""
    reds = quarters(tables, first), quarters(tables, first + 3 * TABLE)
    greens = quarters(tables, first + TABLE), quarters(tables, first + 4 * TABLE)
    blues = quarters(tables, first + 2 * TABLE), quarters(tables, first + 5 * TABLE)
    for x in range(0, count, WIDTH):
        i = byte_lanes.load(places, x)
        r, s = look_up(reds[0], i), look_up(reds[1], i)
        g, h = look_up(greens[0], i), look_up(greens[1], i)
        b, c = look_up(blues[0], i), look_up(blues[1], i)
        k = at + 3 * x
        store_words(lookups.interleave_0(r, g, b), lookups.interleave_0(s, h, c), out, k)
        store_words(lookups.interleave_1(r, g, b), lookups.interleave_1(s, h, c), out, k + WIDTH)
        store_words(
            lookups.interleave_2(r, g, b), lookups.interleave_2(s, h, c), out, k + 2 * WIDTH
        )
