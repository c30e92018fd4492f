"""Contour lines of the map over the picture: where it crosses given values.

The distance of a pixel from the line of a level is the difference of its value from the level,
divided by the steepness of the map there. A line follows the pixels nearer than half its
thickness; smoothed, a pixel half inside is half covered.
"""

from __future__ import annotations

import math
from typing import Any

from onnxcam.kernels import lanes
from onnxcam.kernels._inline import part
from onnxcam.kernels._jit import kernel
from onnxcam.kernels.map_rows import enlarged_row, first_inside, place_columns, position
from onnxcam.kernels.paint_row import paint_row, to_rgb


@part
def coverage(
    value: float, across: float, down: float, level: float, thickness: float, smooth: int
) -> float:
    """How much of a pixel the line of a level covers, 0 to 1; `across`, `down`: the gradient."""
    reach = 0.5 * thickness + 0.5
    difference = abs(value - level)
    if difference >= reach * (abs(across) + abs(down)):  # not near; true for a flat map
        return 0.0
    covered = min(reach - difference / math.sqrt(across * across + down * down), 1.0)
    if smooth:
        return max(covered, 0.0)
    return 1.0 if covered >= 0.5 else 0.0


@part
def slope(low: float, high: float, steps: int) -> float:
    """The difference per pixel over 0, 1 or 2 steps; zero where there is only one pixel."""
    return (high - low) * (0.5 if steps == 2 else float(steps))


@kernel
def overlay_contours(
    values: Any,
    left: float,
    top: float,
    right: float,
    bottom: float,
    picture: Any,
    table: Any,
    alpha: float,
    lines: Any,
    thickness: float,
    smooth: int,
    bicubic: int,
    first: int,
    last: int,
    out: Any,
    work: Any,
) -> None:
    """Draw on the rows first..last of a picture.

    Args:
        values: the map, float32 [h, w], finite; clipped to [0, 1] before it is enlarged.
        left, top, right, bottom: where the map lies, in pixels of the picture; a pixel belongs to
            it when its centre does.
        picture: uint8 [H, W, C], gray (C = 1), RGB (3), or RGBA (4).
        table: uint8 [256, 3]; a line has the colour of its level.
        alpha: the weight of the lines, 0 to 1.
        lines: the levels, float32 [n], 0 to 1.
        thickness: of the lines, in pixels, more than 0.
        smooth: 1 to cover pixels in part, 0 for whole pixels only.
        bicubic: 1 for bicubic enlarging, 0 for bilinear.
        out: uint8 [H, W, 3], or [H, W, 4] for RGBA, alpha as in the picture; may be the picture.
        work: int64 [9 W + w + 1000], work space.
    """
    h = values.shape[0]
    height, width, channels = picture.shape[0], picture.shape[1], out.shape[2]
    x0, x1 = first_inside(left, width), first_inside(right, width)
    y0, y1 = first_inside(top, height), first_inside(bottom, height)
    span, columns, lanes_of_row = width + 128, values.shape[1] + 4, 4 * width + 32
    tail, at = lanes.carve_uint8(work, 0, 1, 32)[0], 4
    heat, at = lanes.carve_uint16(work, at, 1, lanes_of_row)[0], at + lanes_of_row // 4
    shares, at = lanes.carve_uint16(work, at, 1, lanes_of_row)[0], at + lanes_of_row // 4
    weights, at = lanes.carve_float32(work, at, 4, span), at + 2 * span
    rows, at = lanes.carve_float32(work, at, 7, span), at + (7 * span + 1) // 2
    starts, at = lanes.carve_int32(work, at, 1, span)[0], at + (span + 1) // 2
    edges, at = lanes.carve_int32(work, at, 1, columns)[0], at + (columns + 1) // 2
    spare, at = lanes.carve_float32(work, at, 1, columns)[0], at + (columns + 1) // 2
    rgb = lanes.carve_uint8(work, at, 1, 3 * width)[0]
    place_columns(values.shape[1], left, right, bicubic, x0, x1, starts, edges, weights)
    held = starts[width + 64 :]
    for k in range(7):
        held[k] = -1
    for k in range(channels * width + 32):
        heat[k], shares[k] = 32, 16384
    for y in range(first, last):
        if y == y1:  # the rows from here on have no lines
            for k in range(channels * width):
                heat[k], shares[k] = 32, 16384
        if y0 <= y < y1:
            above, below = max(y - 1, y0), min(y + 1, y1 - 1)
            for i in range(above, below + 1):
                if held[4 + i % 3] != i:
                    v = position(i, top, bottom, h)
                    enlarged_row(
                        values, v, bicubic, starts, edges, weights, x0, x1, spare, rows, held,
                        rows[4 + i % 3],
                    )  # fmt: skip
                    held[4 + i % 3] = i
            here, above_y, below_y = 4 + y % 3, 4 + above % 3, 4 + below % 3
            for x in range(x0, x1):
                before, after = max(x - 1, x0), min(x + 1, x1 - 1)
                across = slope(float(rows[here, before]), float(rows[here, after]), after - before)
                down = slope(float(rows[above_y, x]), float(rows[below_y, x]), below - above)
                most, color = 0.0, 0
                for i in range(lines.shape[0]):
                    level = float(lines[i])
                    covered = coverage(float(rows[here, x]), across, down, level, thickness, smooth)
                    if covered > most:
                        most, color = covered, int(min(max(level, 0.0), 1.0) * 255.0)
                weight = alpha * most
                for c in range(3):
                    k = channels * x + c
                    heat[k], shares[k] = 32, 16384
                    if most > 0.0:
                        heat[k] = int(int(table[color, c]) * weight * 64.0 + 0.5) + 32
                        shares[k] = int((1.0 - weight) * 16384.0 + 0.5)
        source, target = y * picture.strides[0], y * out.strides[0]
        if picture.shape[2] == 1:
            to_rgb(picture, source, width, rgb)
            paint_row(rgb, 0, 3 * width, shares, 1, heat, out, target, tail)
        else:
            paint_row(picture, source, channels * width, shares, 1, heat, out, target, tail)
