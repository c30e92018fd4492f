"""From a picture's pixels to the model's input: resize, crop, scale and lay out, row by row.

The resize is Pillow's, byte for byte: columns first, rounded to bytes, then rows; weights are
whole numbers of 2^-22. What is resized to where is in the weights (`onnxcam.resampling`), so that
nothing is computed that the crop throws away. Rows of the source are resized once each, two at a
time, into a ring of as many lines as a row of the result is made of, and one more.

640x480 to 224x224 on a Xeon of 2023, one thread: 0.23 ms, of which 0.16 are `narrow`, 0.04
`lay_out`. One row at a time, every pixel stored by itself, and rows added up in memory: 0.40.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.pixel_lanes import (
    BITS,
    HALF_BITS,
    add_products,
    close_up,
    levels,
    load,
    pack,
    pixels_01,
    pixels_23,
    place,
    prefetch,
    quarter_0,
    quarter_1,
    quarter_2,
    quarter_3,
    spread,
    store,
    store_above,
    store_below,
    two_rows,
    zeros,
)

HALF = 1 << (BITS - 1)


@part
def used(weights: Any, channels: int) -> tuple[int, int]:
    """Where the taps that are not zero begin, and behind the last; each weight stands C times."""
    low, high = weights.shape[0] // channels, 0
    for j in range(weights.shape[0] // channels):
        if weights[channels * j] != 0:
            low, high = min(low, j), j + 1
    return min(low, high), high


@part
def most_pairs(weights: Any) -> int:
    """How many pairs of pixels hold the taps of every pixel of the result."""
    most = 1
    for x in range(weights.shape[0]):
        low, high = used(weights[x], 3)
        most = max(most, high - low)
    return (most + 1) // 2


@part
def put_pair(left: int, right: int, pairs: Any, at: int) -> None:
    """Two weights as four numbers: their upper halves, then their lower ones."""
    pairs[at], pairs[at + 1] = left >> HALF_BITS, right >> HALF_BITS
    lower = (1 << HALF_BITS) - 1
    pairs[at + 2], pairs[at + 3] = left & lower, right & lower


@part
def pair_columns(starts: Any, weights: Any, width: int, count: int, first: Any, pairs: Any) -> None:
    """The taps of a row as `narrow` takes them, for a row of `width` pixels.

    `first` [w + 3] is where they begin, in bytes. `count` pairs a pixel; the pixels that make the
    result a multiple of four have weights of zero.
    """
    taps = weights.shape[1] // 3
    for x in range(starts.shape[0], first.shape[0]):
        first[x] = 0
        for k in range(count):
            put_pair(0, 0, pairs, 4 * (x * count + k))
    for x in range(starts.shape[0]):
        start = min(starts[x] + used(weights[x], 3)[0], width - 2 * count)
        first[x] = 3 * start
        for k in range(count):
            j = start + 2 * k - starts[x]
            left = weights[x, 3 * j] if 0 <= j < taps else 0
            right = weights[x, 3 * j + 3] if 0 <= j + 1 < taps else 0
            put_pair(left, right, pairs, 4 * (x * count + k))


@part
def pixel(above: Any, below: Any, p: int, pairs: Any, at: int, count: int) -> Any:
    """A pixel of two rows, in levels not yet clipped."""
    high, low = zeros(), zeros()
    for k in range(0, count - 1, 2):
        rows = two_rows(above, p + 6 * k, below, p + 6 * k)
        high = add_products(high, pixels_01(rows), spread(pairs, at + 4 * k))
        low = add_products(low, pixels_01(rows), spread(pairs, at + 4 * k + 2))
        high = add_products(high, pixels_23(rows), spread(pairs, at + 4 * k + 4))
        low = add_products(low, pixels_23(rows), spread(pairs, at + 4 * k + 6))
    if count % 2 != 0:
        k = count - 1
        rows = two_rows(above, p + 6 * k, below, p + 6 * k)
        high = add_products(high, pixels_01(rows), spread(pairs, at + 4 * k))
        low = add_products(low, pixels_01(rows), spread(pairs, at + 4 * k + 2))
    return levels(high, low)


@part
def narrow(
    above: Any,
    below: Any,
    first: Any,
    pairs: Any,
    count: int,
    ahead: int,
    lines: Any,
    p: int,
    q: int,
) -> None:
    """Two rows of three colours, uint8 [3 W + 10], to [3 w] from `p` and from `q` on in `lines`.

    Four pixels at a time; up to 13 bytes more are written. What lies `ahead` bytes further on is
    prefetched: the two rows after these. A picture of 640x480 that is in no cache takes 0.24 ms,
    without that 0.33; one that is takes as long as before. (More prefetches for windows that are
    further apart: 4000x3000 6 % faster, smaller ones not.)
    """
    for x in range(0, first.shape[0] - 3, 4):
        at = 4 * count * x
        prefetch(above, place(first, x) + ahead)
        prefetch(below, place(first, x) + ahead)
        a = pixel(above, below, place(first, x), pairs, at, count)
        b = pixel(above, below, place(first, x + 1), pairs, at + 4 * count, count)
        c = pixel(above, below, place(first, x + 2), pairs, at + 8 * count, count)
        d = pixel(above, below, place(first, x + 3), pairs, at + 12 * count, count)
        found = close_up(pack(a, b, c, d))
        store_above(lines, p + 3 * x, found)
        store_below(lines, q + 3 * x, found)


@part
def narrow_by_count(
    above: Any,
    below: Any,
    first: Any,
    pairs: Any,
    count: int,
    ahead: int,
    lines: Any,
    p: int,
    q: int,
) -> None:
    """`narrow`, with loops of its own for few pairs, which the compiler unrolls."""
    if count == 1:
        narrow(above, below, first, pairs, 1, ahead, lines, p, q)
    elif count == 2:
        narrow(above, below, first, pairs, 2, ahead, lines, p, q)
    elif count == 3:
        narrow(above, below, first, pairs, 3, ahead, lines, p, q)
    else:
        narrow(above, below, first, pairs, count, ahead, lines, p, q)


@part
def narrow_gray(line: Any, starts: Any, weights: Any, lines: Any, p: int) -> None:
    """One row of one colour, uint8 [W], to [w] from `p` on in `lines`; weights [w, n]."""
    for x in range(starts.shape[0]):
        total = HALF
        for i in range(weights.shape[1]):
            total += line[starts[x] + i] * weights[x, i]
        lines[p + x] = min(max(total >> BITS, 0), 255)


@part
def pair_rows(weights: Any, top: int, stride: int, places: Any, pairs: Any) -> int:
    """The lines that go into a row, and their weights, as `add_lines` takes them: how many pairs.

    `places` [m + 1] is where they begin in the ring. The last is there twice if they are odd.
    """
    low, high = used(weights, 1)
    ring = weights.shape[0] + 1
    for i in range(low, high, 2):
        right = weights[i + 1] if i + 1 < high else 0
        places[i - low] = (top + i) % ring * stride
        places[i - low + 1] = (top + min(i + 1, high - 1)) % ring * stride
        put_pair(weights[i], right, pairs, 2 * (i - low))
    return (high - low + 1) // 2


@part
def add_lines(lines: Any, places: Any, pairs: Any, count: int, width: int, out: Any) -> None:
    """Lines times weights, clipped to bytes [width]; 32 at a time, so up to 31 more."""
    for x in range(0, width, 32):
        high_0, high_1, high_2, high_3 = zeros(), zeros(), zeros(), zeros()
        low_0, low_1, low_2, low_3 = zeros(), zeros(), zeros(), zeros()
        for k in range(count):
            above = load(lines, place(places, 2 * k) + x)
            below = load(lines, place(places, 2 * k + 1) + x)
            weights = spread(pairs, 4 * k)
            high_0 = add_products(high_0, quarter_0(above, below), weights)
            high_1 = add_products(high_1, quarter_1(above, below), weights)
            high_2 = add_products(high_2, quarter_2(above, below), weights)
            high_3 = add_products(high_3, quarter_3(above, below), weights)
            weights = spread(pairs, 4 * k + 2)
            low_0 = add_products(low_0, quarter_0(above, below), weights)
            low_1 = add_products(low_1, quarter_1(above, below), weights)
            low_2 = add_products(low_2, quarter_2(above, below), weights)
            low_3 = add_products(low_3, quarter_3(above, below), weights)
        found = pack(
            levels(high_0, low_0),
            levels(high_1, low_1),
            levels(high_2, low_2),
            levels(high_3, low_3),
        )
        store(out, x, found)


@part
def add_lines_by_count(
    lines: Any, places: Any, pairs: Any, count: int, width: int, out: Any
) -> None:
    """`add_lines`, likewise: 300x200 to 224x224 takes 5 % less."""
    if count == 1:
        add_lines(lines, places, pairs, 1, width, out)
    elif count == 2:
        add_lines(lines, places, pairs, 2, width, out)
    elif count == 3:
        add_lines(lines, places, pairs, 3, width, out)
    else:
        add_lines(lines, places, pairs, count, width, out)


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
        else:  # a loop of its own: with a step for both it takes half as long again,
            # and with the three colours in one loop 1.8 times as long
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
    finished: Any,
    first: Any,
    pairs: Any,
    places: Any,
    row_pairs: Any,
    padded: Any,
    out: Any,
) -> None:
    """The arguments of `picture_to_float32`."""
    taps = row_weights.shape[1]
    ring = taps + 1
    channels = table.shape[0]
    width = channels * columns.shape[0]
    stride = finished.shape[0]  # a line has room behind it for what is written in blocks
    end = picture.shape[0] - 1
    ahead = 2 * picture.shape[1]
    count = 1
    if channels == 3:
        count = most_pairs(column_weights)
        pair_columns(columns, column_weights, picture.shape[1] // 3, count, first, pairs)
        for x in range(picture.shape[1]):  # `narrow` reads a few bytes behind the row
            padded[x] = picture[end, x]
    row = 0
    for y in range(rows.shape[0]):
        top = rows[y]
        row = max(row, top)
        while row < top + taps:
            p = row % ring * stride
            if channels == 3:
                # Where windows overlap, the next row is needed too, if not now.
                following = min(row + 1, end) if taps > 1 else row
                above = padded if row == end else picture[row]
                below = padded if following == end else picture[following]
                q = following % ring * stride
                narrow_by_count(above, below, first, pairs, count, ahead, lines, p, q)
                row = following + 1
            else:
                narrow_gray(picture[row], columns, column_weights, lines, p)
                row += 1
        found = pair_rows(row_weights[y], top, stride, places, row_pairs)
        add_lines_by_count(lines, places, row_pairs, found, width, finished)
        line = finished[:width]
        lay_out(line, y, rows.shape[0], channels_last != 0, backwards != 0, table, out)


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
    finished: Any,
    first: Any,
    pairs: Any,
    places: Any,
    row_pairs: Any,
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
        row_weights: int32 [h, m], less than 2^26; ``rows + m <= H``.
        table: float32 [C, 256], the value of every byte, by channel of the tensor.
        channels_last: 0 for [C, h, w], else [h, w, C].
        backwards: not 0 where the tensor's colours are in the other order than the picture's.
        lines: scratch uint8 [(m + 1) * (C * w + 32)].
        finished: scratch uint8 [C * w + 32].
        first: scratch int64 [w + 3].
        pairs: scratch int16 [(w + 3) * C * n].
        places: scratch int64 [m + 1].
        row_pairs: scratch int16 [2 * m + 2].
        padded: scratch uint8 [C * W + 10].
        out: float32 [C * h * w].
    """
    resample(
        picture, columns, column_weights, rows, row_weights, table, channels_last, backwards,
        lines, finished, first, pairs, places, row_pairs, padded, out,
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
    finished: Any,
    first: Any,
    pairs: Any,
    places: Any,
    row_pairs: Any,
    padded: Any,
    out: Any,
) -> None:
    """`picture_to_float32` with `table` and `out` of uint8."""
    resample(
        picture, columns, column_weights, rows, row_weights, table, channels_last, backwards,
        lines, finished, first, pairs, places, row_pairs, padded, out,
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
