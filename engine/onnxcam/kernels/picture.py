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
from onnxcam.kernels.pixel_lanes import (
    BITS,
    HALF_BITS,
    PAIRED,
    PIXELS,
    add_pairs,
    four_pixels,
    halves,
    store_pixel,
    zeros,
)

HALF = 1 << (BITS - 1)


@part
def used(weights: Any) -> tuple[int, int]:
    """Where the taps of a row of `column_weights` begin that are not zero, and behind the last."""
    low, high = weights.shape[0] // 3, 0
    for j in range(weights.shape[0] // 3):
        if weights[3 * j] != 0:
            low, high = min(low, j), j + 1
    return min(low, high), high


@part
def groups_of_four(weights: Any) -> int:
    """How many groups of four pixels hold the taps of every pixel of the result."""
    most = 1
    for x in range(weights.shape[0]):
        low, high = used(weights[x])
        most = max(most, high - low)
    return (most + PIXELS - 1) // PIXELS


@part
def pair_up(starts: Any, weights: Any, width: int, groups: int, first: Any, pairs: Any) -> None:
    """The taps of a row as `narrow` takes them, for a row of `width` pixels.

    `first` [w] is where they begin, in bytes. Of each group the upper halves of its weights as
    `four_pixels` has its bytes, then the lower.
    """
    for x in range(starts.shape[0]):
        start = min(starts[x] + used(weights[x])[0], width - PIXELS * groups)
        first[x] = 3 * start
        for k in range(PIXELS * groups):
            j = start + k - starts[x]
            weight = weights[x, 3 * j] if 0 <= j < weights.shape[1] // 3 else 0
            at = 2 * PAIRED * (x * groups + k // PIXELS) + k % 4 // 2 * 8 + k % 2
            for c in range(4):
                pairs[at + 2 * c] = weight >> HALF_BITS
                pairs[at + 2 * c + PAIRED] = weight & ((1 << HALF_BITS) - 1)


@part
def narrow(line: Any, first: Any, groups: int, pairs: Any, out: Any) -> None:
    """One row of three colours, uint8 [3 W + 4], to [3 w] (and one byte more)."""
    at = 0
    for x in range(first.shape[0]):
        high, low = zeros(), halves()
        for p in range(first[x], first[x] + 3 * PIXELS * groups, 3 * PIXELS):
            pixels = four_pixels(line, p)
            high = add_pairs(high, pixels, pairs, at)
            low = add_pairs(low, pixels, pairs, at + PAIRED)
            at += 2 * PAIRED
        store_pixel(high, low, out, 3 * x)


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
def round_off(sums: Any, out: Any) -> None:
    """Sums in units of 2^-22 as bytes, clipped."""
    for x in range(sums.shape[0]):
        out[x] = min(max(sums[x] >> BITS, 0), 255)


@part
def lay_out(
    line: Any, y: int, height: int, last: bool, backwards: bool, table: Any, out: Any
) -> None:
    """A finished row, uint8 [w * C], through the table [C, 256] to its place in `out`."""
    channels = table.shape[0]
    width = line.shape[0] // channels
    for c in range(channels):
        to = channels - 1 - c if backwards else c
        values = table[to]
        if last:
            row = out[y * width * channels : (y + 1) * width * channels]
            for x in range(width):
                row[x * channels + to] = values[line[x * channels + c]]
        else:  # a loop of its own: with a step for both it takes half as long again
            row = out[(to * height + y) * width : (to * height + y + 1) * width]
            for x in range(width):
                row[x] = values[line[x * channels + c]]


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
    finished: Any,
    first: Any,
    pairs: Any,
    padded: Any,
    out: Any,
) -> None:
    """The arguments of `picture_to_float32`."""
    ring = lines.shape[0]
    channels = table.shape[0]
    groups = 1
    if channels == 3:
        groups = groups_of_four(column_weights)
        pair_up(columns, column_weights, picture.shape[1] // 3, groups, first, pairs)
    done = 0
    for y in range(rows.shape[0]):
        top = rows[y]
        for row in range(max(done, top), top + ring):
            line = lines[row % ring]
            if channels == 3 and row == picture.shape[0] - 1:
                for x in range(picture.shape[1]):  # `narrow` reads a few bytes behind the row
                    padded[x] = picture[row, x]
                narrow(padded, first, groups, pairs, line)
            elif channels == 3:
                narrow(picture[row], first, groups, pairs, line)
            else:
                narrow_gray(picture[row], columns, column_weights, line)
        done = top + ring
        for x in range(sums.shape[0]):
            sums[x] = HALF
        for i in range(ring):
            add_line(lines[(top + i) % ring], row_weights[y, i], sums)
        round_off(sums, finished)
        lay_out(finished, y, rows.shape[0], channels_last != 0, backwards != 0, table, out)


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
    finished: Any,
    first: Any,
    pairs: Any,
    padded: Any,
    out: Any,
) -> None:
    """A picture, resized, cropped, scaled and laid out.

    Args:
        picture: uint8 [H, C * W], C colours interleaved, 1 or 3.
        columns: int64 [w], the first column of the picture that goes into each of the result's.
        column_weights: int32 [w, C * n], each weight C times; where C is 3, n is a multiple of 8
            and weights are less than 2^26; ``columns + n <= W``.
        rows: int64 [h], likewise, not decreasing.
        row_weights: int32 [h, m], ``rows + m <= H``.
        table: float32 [C, 256], the value of every byte, by channel of the tensor.
        channels_last: 0 for [C, h, w], else [h, w, C].
        backwards: not 0 where the tensor's colours are in the other order than the picture's.
        lines: scratch uint8 [m, C * w + 1].
        sums: scratch int32 [C * w].
        finished: scratch uint8 [C * w].
        first: scratch int64 [w].
        pairs: scratch int16 [w * 3 * C * n].
        padded: scratch uint8 [C * W + 4].
        out: float32 [C * h * w].
    """
    resample(
        picture, columns, column_weights, rows, row_weights, table, channels_last, backwards,
        lines, sums, finished, first, pairs, padded, out,
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
    finished: Any,
    first: Any,
    pairs: Any,
    padded: Any,
    out: Any,
) -> None:
    """`picture_to_float32` with `table` and `out` of uint8."""
    resample(
        picture, columns, column_weights, rows, row_weights, table, channels_last, backwards,
        lines, sums, finished, first, pairs, padded, out,
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
