"""From a picture's pixels to the model's input: resize, crop, scale and lay out, row by row.

The resize is Pillow's, byte for byte: columns first, rounded to bytes, then rows; weights are
whole numbers of 2^-22. What is resized to where is in the weights (`onnxcam.resampling`), so that
nothing is computed that the crop throws away. Rows of the source are resized once each, into a
ring of as many as a row of the result is made of.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.pixel_lanes import BITS, multiply_add, store_pixel, zeros

HALF = 1 << (BITS - 1)


@part
def narrow(line: Any, starts: Any, weights: Any, out: Any) -> None:
    """One row of three colours, uint8 [3 W], to [3 w] (and one byte more).

    Every weight stands three times in `weights` [w, 24 * n], once for each colour.
    """
    for x in range(starts.shape[0]):
        first = second = third = zeros()
        at = 3 * starts[x]
        each = weights[x]
        for i in range(0, each.shape[0], 24):
            first = multiply_add(first, line, at + i, each, i)
            second = multiply_add(second, line, at + i + 8, each, i + 8)
            third = multiply_add(third, line, at + i + 16, each, i + 16)
        store_pixel(first, second, third, out, 3 * x)


@part
def narrow_gray(line: Any, starts: Any, weights: Any, out: Any) -> None:
    """One row of one colour, uint8 [W], to [w]; weights [w, n]."""
    for x in range(starts.shape[0]):
        total = HALF
        for i in range(weights.shape[1]):
            total += line[starts[x] + i] * weights[x, i]
        out[x] = min(max(total >> BITS, 0), 255)


@part
def add_line(line: Any, weight: int, sums: Any) -> None:
    """``sums += weight * line`` for uint8 and int32."""
    for x in range(sums.shape[0]):
        sums[x] += line[x] * weight


@part
def lay_out(
    sums: Any, y: int, height: int, last: bool, backwards: bool, table: Any, out: Any
) -> None:
    """A finished row of sums [w * C] through the table [C, 256] to its place in `out`."""
    channels = table.shape[0]
    width = sums.shape[0] // channels
    for c in range(channels):
        to = channels - 1 - c if backwards else c
        start = y * width * channels + to if last else (to * height + y) * width
        step = channels if last else 1
        for x in range(width):
            value = min(max(sums[x * channels + c] >> BITS, 0), 255)
            out[start + x * step] = table[to, value]


@part
def resample(
    picture: Any,
    columns: Any,
    column_weights: Any,
    rows: Any,
    row_weights: Any,
    table: Any,
    channels_last: int,
    backwards: int,
    lines: Any,
    sums: Any,
    out: Any,
) -> None:
    """The arguments of `picture_to_float32`."""
    ring = lines.shape[0]
    channels = table.shape[0]
    done = 0
    for y in range(rows.shape[0]):
        first = rows[y]
        for row in range(max(done, first), first + ring):
            line = lines[row % ring]
            if channels == 3:
                narrow(picture[row], columns, column_weights, line)
            else:
                narrow_gray(picture[row], columns, column_weights, line)
        done = first + ring
        for x in range(sums.shape[0]):
            sums[x] = HALF
        for i in range(ring):
            add_line(lines[(first + i) % ring], row_weights[y, i], sums)
        lay_out(sums, y, rows.shape[0], channels_last != 0, backwards != 0, table, out)


@kernel
def picture_to_float32(
    picture: Any,
    columns: Any,
    column_weights: Any,
    rows: Any,
    row_weights: Any,
    table: Any,
    channels_last: int,
    backwards: int,
    lines: Any,
    sums: Any,
    out: Any,
) -> None:
    """A picture, resized, cropped, scaled and laid out.

    Args:
        picture: uint8 [H, C * W], C colours interleaved, 1 or 3.
        columns: int64 [w], the first column of the picture that goes into each of the result's.
        column_weights: int32 [w, C * n], each weight C times; n a multiple of 8 where C is 3, and
            ``columns + n <= W``.
        rows: int64 [h], likewise, not decreasing.
        row_weights: int32 [h, m], ``rows + m <= H``.
        table: float32 [C, 256], the value of every byte, by channel of the tensor.
        channels_last: 0 for [C, h, w], else [h, w, C].
        backwards: not 0 where the tensor's colours are in the other order than the picture's.
        lines: scratch uint8 [m, C * w + 1].
        sums: scratch int32 [C * w].
        out: float32 [C * h * w].
    """
    resample(
        picture, columns, column_weights, rows, row_weights, table, channels_last, backwards,
        lines, sums, out,
    )  # fmt: skip


@kernel
def picture_to_uint8(
    picture: Any,
    columns: Any,
    column_weights: Any,
    rows: Any,
    row_weights: Any,
    table: Any,
    channels_last: int,
    backwards: int,
    lines: Any,
    sums: Any,
    out: Any,
) -> None:
    """`picture_to_float32` with `table` and `out` of uint8."""
    resample(
        picture, columns, column_weights, rows, row_weights, table, channels_last, backwards,
        lines, sums, out,
    )  # fmt: skip


@kernel
def gray_of(picture: Any, backwards: int, out: Any) -> None:
    """Pillow's "L" of uint8 [H, W, 3]: ITU-R 601-2 luma in units of 2^-16, to [H, W]."""
    red = 2 if backwards != 0 else 0
    for y in range(picture.shape[0]):
        row = picture[y]
        for x in range(picture.shape[1]):
            r, g, b = np.int32(row[x, red]), np.int32(row[x, 1]), np.int32(row[x, 2 - red])
            out[y, x] = (19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16
