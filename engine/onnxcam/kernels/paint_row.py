"""A row of a picture and a row of colours in one."""

from __future__ import annotations

from typing import Any

from onnxcam.kernels import lanes
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
        weights: uint16, 16384 for a whole; with `step` 1 one for each byte, with `step` 0 the
            same 32 over and over.
        heat: uint16, one for each byte, in 64ths, 32 included for rounding. The sum must stay
            below 32768; a result above 255 becomes 255.
        tail: uint8 [32], work space: the last bytes go through it so that nothing is read or
            written behind them.
    """
    whole, share = count // 32 * 32, lanes.cross(lanes.load(weights, 0))
    if step == 0:  # a loop of its own, in which the weights stay in registers
        for k in range(0, whole, 32):
            paint_block(picture, start + k, share, heat, k, out, at + k)
    else:
        for k in range(0, whole, 32):
            share = lanes.cross(lanes.load(weights, k))
            paint_block(picture, start + k, share, heat, k, out, at + k)
    if whole < count:
        share = lanes.cross(lanes.load(weights, whole * step))
        copy_bytes(picture, start + whole, count - whole, tail, 0)
        paint_block(tail, 0, share, heat, whole, tail, 0)
        copy_bytes(tail, 0, count - whole, out, at + whole)


@part
def paint_block(picture: Any, start: int, share: Any, heat: Any, k: int, out: Any, at: int) -> None:
    """32 bytes of a row; `share` are their weights in the order `CROSSED`."""
    under = lanes.multiply_high(lanes.widen_crossed(picture, start, lanes.fill(0)), share)
    mixed = lanes.add(under, lanes.cross(lanes.load(heat, k)))
    lanes.narrow_crossed(out, at, lanes.right_signed(mixed, 6))


@part
def to_rgb(gray: Any, start: int, count: int, out: Any) -> None:
    """`count` bytes of a row, each three times."""
    for x in range(count):
        value = lanes.byte(gray, start + x)
        out[3 * x] = value
        out[3 * x + 1] = value
        out[3 * x + 2] = value
