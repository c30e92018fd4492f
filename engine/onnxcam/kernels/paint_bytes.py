"""A row of a picture and a row of colours in one, in bytes all the way.

Of the colours come as much as bytes can hold: already multiplied where they are added, as they are
where they cover, and where they are mixed with the picture multiplied by nearly 1, so that whole
numbers can be their weight (`choose_weights`). That rounds a colour by half a level times alpha,
and takes 12 instructions for 32 bytes where `paint_row` takes 20.
"""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import byte_lanes, lanes, lookups
from onnxcam.kernels._inline import part
from onnxcam.kernels.paint_row import copy_bytes, load_block, store_block
from onnxcam.kernels.pick_at_once import pick_bytes_at_once, split_entries

MIX, ADD, FOLLOW, COVER = 0, 1, 2, 3  # what `blend` says, to `overlay_colors`, too
LARGEST_ALPHA = 0.5  # of MIX: beyond it what rounds a colour shows


@part
def choose_weights(alpha: float, room: float) -> tuple[int, int, int]:
    """(w, v, m) of ``(w * picture + v * colour) * m / 32768``; see `byte_lanes.mix`.

    The picture's weight becomes 1 - alpha, as nearly as whole numbers make it; that of a colour's
    byte at least alpha times `room`: how many levels a byte's steps have to be, at least.
    """
    rest, step = 32768.0 * (1.0 - alpha), 32768.0 * alpha * room
    begin = int((rest + step) / 128.0) + 6  # so that w + v are at most 128
    best, worst = begin, 65536.0
    for m in range(begin, begin + 64):
        w = int(rest / m + 0.5)
        error = abs(w * m - rest)
        if error < worst:
            best, worst = m, error
    return int(rest / best + 0.5), int(step / best) + 1, best


@part
def weigh(alpha: float, blend: int) -> tuple[float, Any]:
    """What colours are multiplied by to become bytes; the pair and factor that mix them."""
    w, v, m = choose_weights(alpha, 1.0)
    ratio = alpha * 32768.0 / (v * m) if blend == MIX else alpha if blend == ADD else 1.0
    return ratio, (lanes.fill(w | v << 8), lanes.fill(m))


@part
def fill_bytes(table: Any, ratio: float, entries: Any, tables: Any) -> None:
    """The colours [256, 3] times `ratio`, rounded: three bytes of 32 bits an entry, the last 0.

    Or three tables of bytes, too, where `lookups` reads from them.
    """
    for i in range(256):
        color = 0
        for c in range(3):
            color |= int(int(table[i, c]) * ratio + 0.5) << (8 * c)
        entries[i] = color
    if lookups.at_once():
        split_entries(entries, 0, 3, 8, tables, 0)


@part
def pick_bytes(
    indices: Any, count: int, entries: Any, tables: Any, channels: int, out: Any
) -> None:
    """The entries of `count` indices, one behind the other (and up to 192 bytes more)."""
    if channels == 3 and lookups.at_once():
        pick_bytes_at_once(indices, count, tables, out)
    elif channels == 3:
        for x in range(count):
            byte_lanes.copy_entry(entries, int(indices[x]), out, 3 * x)
    else:
        for x in range(count):
            byte_lanes.copy_entry(entries, int(indices[x]), out, 4 * x)


@part
def block(
    picture: Any,
    start: int,
    color: Any,
    blend: int,
    channels: int,
    look: Any,
    half: int,
    out: Any,
    at: int,
) -> None:
    """64 bytes, or with `half` 32; `look` are the pair and the factor of `byte_lanes.mix`."""
    under = load_block(picture, start, half)
    if blend == MIX:
        color = byte_lanes.mix(under, color, look[0], look[1])
    elif blend == ADD:
        color = byte_lanes.add_clipped(under, color)
    if channels == 4:
        color = byte_lanes.with_fourths(color, under)
    store_block(out, at, half, color)


@part
def row_of_blocks(
    picture: Any,
    start: int,
    count: int,
    colors: Any,
    blend: int,
    channels: int,
    look: Any,
    out: Any,
    at: int,
    tail: Any,
) -> None:
    """As `paint_colored`, whose loop this is."""
    whole = count // 64 * 64
    for k in range(0, whole, 64):
        color = byte_lanes.load(colors, k)
        block(picture, start + k, color, blend, channels, look, 0, out, at + k)
    if count - whole >= 32:
        color = byte_lanes.load(colors, whole)
        block(picture, start + whole, color, blend, channels, look, 1, out, at + whole)
        whole += 32
    if whole < count:
        color = byte_lanes.load(colors, whole)
        copy_bytes(picture, start + whole, count - whole, tail, 0)
        block(tail, 0, color, blend, channels, look, 1, tail, 0)
        copy_bytes(tail, 0, count - whole, out, at + whole)


@part
def paint_colored(
    picture: Any,
    start: int,
    count: int,
    colors: Any,
    blend: int,
    channels: int,
    look: Any,
    out: Any,
    at: int,
    tail: Any,
) -> None:
    """`count` bytes of a row; a loop for every blend, in which nothing is asked.

    Args:
        picture, out: uint8 rows; may be the same memory, if `start` is `at`.
        colors: uint8, from its beginning; 64 bytes behind them are read.
        blend: MIX, ADD or COVER.
        channels: 3, or 4: then every fourth byte stays the picture's.
        look: two lanes, the pair and the factor of `byte_lanes.mix`.
        tail: uint8 [32], work space: the last bytes go through it so that nothing is read or
            written behind them.
    """
    if blend == MIX and channels == 3:
        row_of_blocks(picture, start, count, colors, MIX, 3, look, out, at, tail)
    elif blend == MIX:
        row_of_blocks(picture, start, count, colors, MIX, 4, look, out, at, tail)
    elif blend == ADD:  # what is added to a fourth byte is 0
        row_of_blocks(picture, start, count, colors, ADD, 3, look, out, at, tail)
    elif channels == 3:
        row_of_blocks(picture, start, count, colors, COVER, 3, look, out, at, tail)
    else:
        row_of_blocks(picture, start, count, colors, COVER, 4, look, out, at, tail)
