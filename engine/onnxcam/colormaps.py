"""Colormaps: 256 colours from low to high, as uint8 [256, 3], RGB.

`jet` is OpenCV's COLORMAP_JET, the colours of most Grad-CAM pictures; the others are
matplotlib's of the same name, its jet being `jet-matplotlib` (the two differ by up to 33
levels). viridis, plasma, inferno and magma (CC0, S. van der Walt, N. Smith, E. Firing) and turbo
(Apache-2.0, A. Mikhailov) have no formula: their tables lie in `data/`, 256 RGB triples of bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.errors import MethodError
from onnxcam.pictures import Pixels

_I = np.arange(256)
_X = np.linspace(0.0, 1.0, 256)


def _jet() -> Pixels:
    """Three ramps of 4 levels a step, each up and down."""
    red = np.minimum(4 * _I - 382, 1148 - 4 * _I)
    green = np.minimum(4 * _I - 128, 892 - 4 * _I)
    blue = np.minimum(4 * _I + 128, 638 - 4 * _I)
    table = np.stack([red, green, blue], axis=1).clip(0, 255)
    table[159, 2] = 1  # OpenCV's own rounding: the ramp says 2
    return table.astype(np.uint8)


def _segments(*channels: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    """Piecewise linear channels, given as (position, value) pairs in [0, 1]."""
    planes = [np.interp(_X, *np.transpose(points)) for points in channels]
    return np.stack(planes, axis=1)


def jet_matplotlib_values() -> NDArray[np.float64]:
    """matplotlib's jet before it is rounded to bytes: float64 [256, 3] in [0, 1]."""
    return _segments(
        ((0, 0), (0.35, 0), (0.66, 1), (0.89, 1), (1, 0.5)),
        ((0, 0), (0.125, 0), (0.375, 1), (0.64, 1), (0.91, 0), (1, 0)),
        ((0, 0.5), (0.11, 1), (0.34, 1), (0.65, 0), (1, 0)),
    )


def _jet_matplotlib() -> Pixels:
    return _bytes(jet_matplotlib_values())


def _hot() -> Pixels:
    first, second = 0.365079, 0.746032
    return _bytes(
        _segments(
            ((0, 0.0416), (first, 1), (1, 1)),
            ((0, 0), (first, 0), (second, 1), (1, 1)),
            ((0, 0), (second, 0), (1, 1)),
        )
    )


def _gray() -> Pixels:
    return np.repeat(_I[:, None], 3, axis=1).astype(np.uint8)


def _coolwarm() -> Pixels:
    """K. Moreland, "Diverging Color Maps for Scientific Visualization" (2009).

    Blue (59, 76, 192) to red (180, 4, 38) through an almost white (221, 221, 221), straight in
    Msh, the polar form of CIELAB: M and s fall to the middle and rise again. As in the
    paper's table, 33 colours are computed and the others interpolated between them.
    """
    blue, red = _msh_of_rgb(59, 76, 192), _msh_of_rgb(180, 4, 38)
    middle = max(blue[0], red[0], 88.0)
    points = []
    positions = np.linspace(0.0, 1.0, 33)
    for x in positions:
        end, t = (blue, 2 * x) if x < 0.5 else (red, 2 - 2 * x)
        hue = _adjusted_hue(end, middle)
        m, s, h = end
        points.append(((1 - t) * m + t * middle, (1 - t) * s, (1 - t) * h + t * hue))
    colors = _rgb_of_msh(np.array(points))
    return _bytes(np.stack([np.interp(_X, positions, channel) for channel in colors.T], axis=1))


def _table(name: str) -> Callable[[], Pixels]:
    def read() -> Pixels:
        data = (Path(__file__).parent / "data" / f"{name}.rgb").read_bytes()
        return np.frombuffer(data, np.uint8).reshape(256, 3)

    return read


COLORMAPS: dict[str, Callable[[], Pixels]] = {
    "jet": _jet,
    "jet-matplotlib": _jet_matplotlib,
    "viridis": _table("viridis"),
    "plasma": _table("plasma"),
    "inferno": _table("inferno"),
    "magma": _table("magma"),
    "turbo": _table("turbo"),
    "hot": _hot,
    "gray": _gray,
    "coolwarm": _coolwarm,
}


def find_colormap(colormap: str | NDArray[Any]) -> Pixels:
    """A colormap's table.

    Args:
        colormap: a name of :data:`COLORMAPS`, or any uint8 array [256, 3] of RGB colours.

    Returns:
        A contiguous, read-only uint8 array [256, 3].

    Raises:
        MethodError: an unknown name, or an array of another shape or dtype.
    """
    if isinstance(colormap, str):
        if colormap not in COLORMAPS:
            raise MethodError(f"colormap '{colormap}' is unknown; known are {', '.join(COLORMAPS)}")
        return _named(colormap)
    table = np.asarray(colormap)
    if table.shape != (256, 3) or table.dtype != np.uint8:
        raise MethodError(
            "colormap: expected a name or a uint8 array [256, 3], "
            f"got {table.dtype} {list(table.shape)}"
        )
    return np.ascontiguousarray(table)


@cache
def _named(name: str) -> Pixels:
    table = np.array(COLORMAPS[name]())
    table.flags.writeable = False
    return table


def _bytes(values: NDArray[np.float64]) -> Pixels:
    """[0, 1] to the nearest byte."""
    return np.asarray(np.rint(values.clip(0, 1) * 255), np.uint8)


# CIELAB with the white of D65, sRGB (IEC 61966-2-1).
_XYZ_OF_RGB = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)
_WHITE = np.array([0.9505, 1.0, 1.089])


def _msh_of_rgb(red: int, green: int, blue: int) -> tuple[float, float, float]:
    rgb = np.array([red, green, blue]) / 255
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    ratio = _XYZ_OF_RGB @ linear / _WHITE
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    lightness, a, b = 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
    m = float(np.sqrt(lightness**2 + a**2 + b**2))
    return m, float(np.arccos(lightness / m)), float(np.arctan2(b, a))


def _adjusted_hue(end: tuple[float, float, float], middle: float) -> float:
    """The hue at the middle: turned so that the path spins outwards (Moreland, section 4)."""
    m, s, h = end
    if m >= middle:
        return h
    spin = s * np.sqrt(middle**2 - m**2) / (m * np.sin(s))
    return float(h + spin if h > -np.pi / 3 else h - spin)


def _rgb_of_msh(msh: NDArray[np.float64]) -> NDArray[np.float64]:
    m, s, h = msh.T
    lightness, a, b = m * np.cos(s), m * np.sin(s) * np.cos(h), m * np.sin(s) * np.sin(h)
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], axis=1)
    xyz = np.where(f > 0.206893, f**3, (f - 16 / 116) / 7.787) * _WHITE
    linear = xyz @ np.linalg.inv(_XYZ_OF_RGB).T
    positive = np.maximum(linear, 0)
    gamma = 1.055 * positive ** (1 / 2.4) - 0.055
    return np.asarray(np.where(linear > 0.0031308, gamma, 12.92 * linear))
