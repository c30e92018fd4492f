"""A row of a picture and a row of colours in one."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import byte_lanes, lanes
from onnxcam.kernels._inline import part


@part
def copy_bytes(source: Any, start: int, count: int, target: Any, at: int) -> None:
    """A few bytes, fewer than 64: eight at once, then one by one."""
    whole = count // 8 * 8
    for k in range(0, whole, 8):
        lanes.copy_8(source, start + k, target, at + k)
    for k in range(whole, count):
        lanes.put_byte(target, at + k, lanes.byte(source, start + k))


@part
def paint_row(
    picture: Any,
    start: int,
    count: int,
    weights: Any,
    step: int,
    heat: Any,
    out: Any,
    at: int,
    tail: Any,
) -> None:
    """``out[at + k] = (weights[k] * picture[start + k] + heat[k]) / 64`` for `count` bytes.

    Args:
        picture, out: uint8 rows; may be the same memory, if `start` is `at`.
        weights: uint16, 16384 for a whole; with `step` 1 one for each byte, with `step` 0 those
            of four bytes, over and over, 32 of them.
        heat: uint16, one for each byte, in 64ths, 32 included for rounding. The sum must stay
            below 32768; a result above 255 becomes 255.
        tail: uint8 [64], work space: the last bytes go through it so that nothing is read or
            written behind them.
    """
    whole = count // 64 * 64
    if step == 0:
        for k in range(0, whole, 64):
            share = lanes.load(weights, 0)  # here for the sake of `lanes.multiply_high`
            paint_block(picture, start + k, (share, share), heat, k, out, at + k)
    else:
        for k in range(0, whole, 64):
            paint_block(picture, start + k, load_eights(weights, k), heat, k, out, at + k)
    if whole < count:
        share = lanes.load(weights, 0)
        shares = (share, share)
        if step == 1:
            shares = load_eights(weights, whole)
        copy_bytes(picture, start + whole, count - whole, tail, 0)
        paint_block(tail, 0, shares, heat, whole, tail, 0)
        copy_bytes(tail, 0, count - whole, out, at + whole)


@part
def paint_block(
    picture: Any, start: int, shares: Any, heat: Any, k: int, out: Any, at: int
) -> None:
    """64 bytes of a row; `shares` are their weights in two parts."""
    under = byte_lanes.load(picture, start)
    byte_lanes.store(out, at, mix_eights(under, shares, load_eights(heat, k)))


@part
def load_block(array: Any, at: int, half: int) -> Any:
    """64 bytes of a row, or with `half` the first 32 of them."""
    return byte_lanes.load_half(array, at) if half else byte_lanes.load(array, at)


@part
def store_block(array: Any, at: int, half: int, x: Any) -> None:
    """The opposite of `load_block`."""
    if half:
        byte_lanes.store_half(array, at, x)
    else:
        byte_lanes.store(array, at, x)


@part
def load_eights(values: Any, at: int) -> Any:
    """64 numbers of 16 bits: of every 16 the lower eight, and the upper ones."""
    x, y = lanes.load(values, at), lanes.load(values, at + 32)
    return byte_lanes.lower_eights(x, y), byte_lanes.upper_eights(x, y)


@part
def added(x: Any, y: Any) -> Any:
    """The sum, of lanes in two parts."""
    return lanes.add(x[0], y[0]), lanes.add(x[1], y[1])


@part
def mix_eights(under: Any, weights: Any, color: Any) -> Any:
    """``(weights * under + color) / 64`` of 64 bytes; the others in two parts."""
    zero = lanes.fill(0)
    lower = lanes.multiply_high(byte_lanes.widen_lower(under, zero), weights[0])
    upper = lanes.multiply_high(byte_lanes.widen_upper(under, zero), weights[1])
    lower = lanes.right_signed(lanes.add(lower, color[0]), 6)
    upper = lanes.right_signed(lanes.add(upper, color[1]), 6)
    return byte_lanes.clip_eights(lower, upper)


@part
def to_rgb(gray: Any, start: int, count: int, out: Any) -> None:
    """`count` bytes of a row, each three times."""
    for x in range(count):
        value = lanes.byte(gray, start + x)
        out[3 * x] = value
        out[3 * x + 1] = value
        out[3 * x + 2] = value
