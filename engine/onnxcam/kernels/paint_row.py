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
    """``out[at + k] = (weights[k] * picture[start + k] + heat[k]) / 128`` for `count` bytes.

    Args:
        picture, out: uint8 rows; may be the same memory, if `start` is `at`.
        weights: uint16, 32768 for a whole; with `step` 1 one for each byte, with `step` 0 the
            same 32 over and over.
        heat: uint16, one for each byte, in 128ths, 64 included for rounding. The sum must stay
            below 65536; a result above 255 becomes 255.
        tail: uint8 [32], work space: the last bytes go through it so that nothing is read or
            written behind them.
    """
    whole = count // 32 * 32
    for k in range(0, whole, 32):
        scaled = lanes.multiply_high(
            lanes.load_high(picture, start + k), lanes.load(weights, k * step)
        )
        mixed = lanes.right(lanes.add(scaled, lanes.load(heat, k)), 7)
        lanes.store_clipped(out, at + k, mixed)
    if whole < count:
        copy_bytes(picture, start + whole, count - whole, tail, 0)
        scaled = lanes.multiply_high(lanes.load_high(tail, 0), lanes.load(weights, whole * step))
        mixed = lanes.right(lanes.add(scaled, lanes.load(heat, whole)), 7)
        lanes.store_clipped(tail, 0, mixed)
        copy_bytes(tail, 0, count - whole, out, at + whole)


@part
def to_rgb(gray: Any, start: int, count: int, out: Any) -> None:
    """`count` bytes of a row, each three times."""
    for x in range(count):
        value = lanes.byte(gray, start + x)
        out[3 * x] = value
        out[3 * x + 1] = value
        out[3 * x + 2] = value
