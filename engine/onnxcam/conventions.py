"""Painting exactly as other libraries do, with their own arithmetic.

Each function takes a :class:`Job` to pixels; :data:`onnxcam.painting.PRESETS` names them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.colormaps import find_colormap, jet_matplotlib_values
from onnxcam.pictures import Pixels
from onnxcam.preprocess import Rectangle

Map = NDArray[np.float32]


class Job(NamedTuple):
    """What a preset paints: every field validated, `picture` [H, W, 3]."""

    values: Map
    rectangle: Rectangle
    picture: NDArray[Any]
    alpha: float
    colors: Pixels

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the picture."""
        return self.picture.shape[0], self.picture.shape[1]


def place(values: Map, rectangle: Rectangle, size: tuple[int, int]) -> Map:
    """Enlarge a map bilinearly into a rectangle of a picture of `size` (H, W); zero outside."""
    from onnxcam import compiled as kernels

    out = np.empty(size, np.float32)
    kernels.resize_map_bilinear(values, *rectangle, out)
    return out


def _blended(job: Job, heat: Map) -> Pixels:
    from onnxcam import compiled as kernels

    colored = _colored(heat, job.colors)
    kernels.blend(job.picture, colored, job.alpha, colored)
    return colored


def _colored(heat: Map, colors: Pixels) -> Pixels:
    from onnxcam import compiled as kernels

    out = np.empty((*heat.shape, 3), np.uint8)
    kernels.colorize(heat, colors, out)
    return out


def keras_additive(job: Job) -> Pixels:
    index = (255 * job.values.clip(0, 1)).astype(np.uint8)
    colors = job.colors / np.float32(255)
    if job.colors is find_colormap("jet-matplotlib"):  # Keras takes it before rounding to bytes
        colors = jet_matplotlib_values().astype(np.float32)
    heat = np.asarray(colors[index], np.float32)
    lowest, span = heat.min(), np.ptp(heat) or np.float32(1)
    outside = ((colors[0] - lowest) / span).clip(0, 1) * 255
    rows, columns = _inside(job)
    small = Image.fromarray(_stretched(heat))
    enlarged = small.resize((columns.stop - columns.start, rows.stop - rows.start))
    placed = np.empty((*job.size, 3), np.float32)
    placed[...] = outside.astype(np.uint8)
    placed[rows, columns] = np.asarray(enlarged)
    return _stretched(placed * np.float32(job.alpha) + job.picture.astype(np.float32))


def _stretched(values: NDArray[np.float32]) -> Pixels:
    """Scale so that the minimum becomes 0 and the maximum 255, as keras.utils.array_to_img."""
    values = values - values.min()
    highest = values.max()
    if highest != 0:
        values /= highest
    return (values * 255).astype(np.uint8)


def signed(job: Job) -> Pixels:
    from onnxcam import compiled as kernels

    heat = np.empty(job.size, np.float32)
    kernels.resize_map_bicubic(job.values, *job.rectangle, heat)
    seen = heat[_inside(job)]
    lowest, highest = seen.min(), seen.max()
    if lowest == highest:
        heat[...] = 0
    else:
        # matplotlib bins [0, 1] into 256 equal parts; `colorize` takes the floor of 255 x.
        heat = (heat - lowest) * (np.float32(256 / 255) / (highest - lowest))
    return _blended(job, heat)


def pytorch_grad_cam(job: Job) -> Pixels:
    heat = _from_0_to_1(place(_from_0_to_1(job.values), job.rectangle, job.size))
    colored = _colored(heat, job.colors).astype(np.float32) / 255
    mixed = job.alpha * colored + (1 - job.alpha) * (job.picture.astype(np.float32) / 255)
    return (255 * (mixed / (mixed.max() or 1))).astype(np.uint8)


def _from_0_to_1(values: Map) -> Map:
    values = values - values.min()
    return np.asarray(values / (np.float32(1e-7) + values.max()))


def _inside(job: Job) -> tuple[slice, slice]:
    """Rows and columns of the picture whose centres lie in the rectangle; at least one each."""
    left, top, right, bottom = job.rectangle
    return _span(top, bottom, job.size[0]), _span(left, right, job.size[1])


def _span(low: float, high: float, size: int) -> slice:
    start = min(max(math.ceil(low - 0.5), 0), size - 1)
    return slice(start, min(max(math.ceil(high - 0.5), start + 1), size))
