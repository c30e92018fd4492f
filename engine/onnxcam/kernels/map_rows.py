"""A small map enlarged to the columns of a picture, one row of the map at a time.

What the overlays share. Bilinear and bicubic (Keys, a = -0.75) have half-pixel centres and
repeated edges, as OpenCV's INTER_LINEAR and INTER_CUBIC.

Loops count in unsigned numbers where it matters: a negative index would count from the end, as in
NumPy, and a loop in which that might happen is not vectorised (1.5 instead of 0.5 us a row).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.kernels._inline import part
from onnxcam.kernels.resize_bicubic import cubic


@part
def first_inside(edge: float, size: int) -> int:
    """The first of `size` pixels whose centre does not lie before `edge`; `size` if none."""
    exact = min(max(edge - 0.5, 0.0), float(size))
    whole = int(exact)
    return whole + 1 if whole < exact else whole


@part
def position(pixel: int, low: float, high: float, size: int) -> float:
    """Where the centre of a pixel of low..high lies among `size` rows or columns of the map."""
    return min(max((pixel + 0.5 - low) * size / (high - low) - 0.5, -0.5), size - 0.5)


@part
def below(place: float) -> int:
    """The row or column before a place of at least -1: its floor, without calling a library."""
    return int(place + 1.0) - 1


@part
def first_row(j: int, low: float, high: float, size: int, first: int, last: int) -> int:
    """Which of the rows first..last of the picture is the first not before the map's row j."""
    exact = min(max(low + (j + 0.5) * (high - low) / size - 0.5, float(first)), float(last))
    y = int(exact)  # by `position` itself, since the two may be rounded differently
    while y > first and below(position(y - 1, low, high, size)) >= j:
        y -= 1
    while y < last and below(position(y, low, high, size)) < j:
        y += 1
    return y


@part
def largest_change(values: Any, j: int) -> float:
    """The largest difference of the map's rows j and j + 1 (within the map), clipped to [0, 1]."""
    lower, upper = max(j, 0), min(j + 1, values.shape[0] - 1)
    most = 0.0
    for i in range(values.shape[1]):
        a = min(max(float(values[lower, i]), 0.0), 1.0)
        most = max(most, abs(min(max(float(values[upper, i]), 0.0), 1.0) - a))
    return most


@part
def place_columns(
    columns: int,
    left: float,
    right: float,
    bicubic: int,
    first: int,
    last: int,
    starts: Any,
    edges: Any,
    weights: Any,
) -> None:
    """For the pixels first..last: which columns of the map they mix, and how.

    `starts[x]` counts in the row of `stretch_row`, which begins two columns early; the weights
    of pixel x are `weights[k, x]`, two of them or four. Pixels from ``edges[i]`` to
    ``edges[i + 1]`` have the start i.
    """
    if bicubic:
        for x in range(first, last):
            u = position(x, left, right, columns)
            whole = below(u)
            starts[x] = whole + 1
            for k in range(4):
                weights[k, x] = cubic(u - whole + 1.0 - k)
        return
    # Without the division of `position` and with 32 bits this vectorises: 2 us less for 1280.
    scale, shift = columns / (right - left), columns - 0.5
    for x in range(np.uintp(first), np.uintp(last)):
        u = min(max((x + 0.5 - left) * scale - 0.5, -0.5), shift)
        start = np.int32(u + 1.0)
        starts[x] = start + np.int32(1)
        weights[0, x] = start - u
        weights[1, x] = u - start + 1.0
    seen = 0
    for x in range(first, last):
        while seen <= starts[x]:
            edges[seen] = x
            seen += 1
    while seen < columns + 4:
        edges[seen] = last
        seen += 1


@part
def stretch_row(
    row: Any,
    bicubic: int,
    starts: Any,
    edges: Any,
    weights: Any,
    first: int,
    last: int,
    spare: Any,
    out: Any,
) -> None:
    """A row of the map, clipped to [0, 1], at the pixels first..last of `out`; float32 all."""
    columns = row.shape[0]
    for k in range(columns + 4):
        spare[k] = min(max(row[min(max(k - 2, 0), columns - 1)], 0.0), 1.0)
    if bicubic:
        for x in range(np.uintp(first), np.uintp(last)):
            i: Any = np.uintp(starts[x])
            out[x] = (weights[0, x] * spare[i] + weights[1, x] * spare[i + 1]) + (
                weights[2, x] * spare[i + 2] + weights[3, x] * spare[i + 3]
            )
    elif columns * 8 > last - first:
        for x in range(np.uintp(first), np.uintp(last)):
            i = np.uintp(starts[x])
            out[x] = weights[0, x] * spare[i] + weights[1, x] * spare[i + 1]
    else:  # a loop without lookups, worth its start from 8 pixels a column on
        for k in range(1, columns + 2):
            a, b = spare[k], spare[k + 1]
            for x in range(np.uintp(edges[k]), np.uintp(edges[k + 1])):
                out[x] = weights[0, x] * a + weights[1, x] * b


@part
def quantise(row: Any, scale: float, first: int, last: int, out: Any) -> None:
    """``scale * row``, rounded, as uint16; row in [0, 1], scale up to 32767."""
    factor, half = np.float32(scale), np.float32(0.5)
    for x in range(np.uintp(first), np.uintp(last)):
        out[x] = np.int32(row[x] * factor + half)


@part
def enlarged_row(
    values: Any,
    v: float,
    bicubic: int,
    starts: Any,
    edges: Any,
    weights: Any,
    first: int,
    last: int,
    spare: Any,
    rows: Any,
    held: Any,
    out: Any,
) -> None:
    """The map at the height v of its own rows, clipped to [0, 1]; float32.

    `rows` keeps up to four enlarged rows of the map, `held` their numbers: row j lies in
    ``rows[j % 4]``.
    """
    h = values.shape[0]
    j = below(v)
    for i in range(max(j - bicubic, 0), min(j + 1 + bicubic, h - 1) + 1):
        if held[i % 4] != i:
            stretch_row(values[i], bicubic, starts, edges, weights, first, last, spare, rows[i % 4])
            held[i % 4] = i
    b, c = rows[max(j, 0) % 4], rows[min(j + 1, h - 1) % 4]
    if bicubic:
        a, d = rows[max(j - 1, 0) % 4], rows[min(j + 2, h - 1) % 4]
        wa, wb = np.float32(cubic(v - j + 1.0)), np.float32(cubic(v - j))
        wc, wd = np.float32(cubic(v - j - 1.0)), np.float32(cubic(v - j - 2.0))
        zero, one = np.float32(0.0), np.float32(1.0)
        for x in range(np.uintp(first), np.uintp(last)):
            out[x] = min(max((wa * a[x] + wb * b[x]) + (wc * c[x] + wd * d[x]), zero), one)
    else:
        wb, wc = np.float32(1.0 - (v - j)), np.float32(v - j)
        for x in range(np.uintp(first), np.uintp(last)):
            out[x] = wb * b[x] + wc * c[x]


@part
def fraction_of(part_of_row: float) -> int:
    """A part of a row, -0.5 to 0.5, as a signed number of 65536ths for `multiply_high_signed`."""
    return min(max(int(part_of_row * 65536.0 + 32768.5) - 32768, -32768), 32767)


@part
def nearest_level(v: float, j: int, rows: int) -> tuple[int, int]:
    """Of the height v, between the map's rows j and j + 1: the nearer one's place, the rest.

    Even rows of the map have place 0, odd ones 1.
    """
    if v - j < 0.5:
        return max(j, 0) % 2, fraction_of(v - j)
    return min(j + 1, rows - 1) % 2, fraction_of(v - j - 1.0)
