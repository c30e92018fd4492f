"""Heatmap over picture.

The default paints as the OpenCV tutorials do; the other conventions that people know are
presets, rows of the table :data:`PRESETS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.colormaps import find_colormap, jet_matplotlib_values
from onnxcam.errors import InputError, MethodError
from onnxcam.pictures import PictureLike, Pixels, open_picture
from onnxcam.preprocess import Rectangle

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Job:
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


@dataclass(frozen=True)
class Preset:
    """A convention: its usual alpha and colormap, and its function from a job to pixels."""

    alpha: float
    colormap: str
    paint: Callable[[Job], Pixels]
    float_pictures: bool = False


def overlay(
    heatmap: NDArray[Any],
    picture: PictureLike | NDArray[Any],
    alpha: float | None = None,
    colormap: str | NDArray[Any] | None = None,
    out: Pixels | None = None,
    preset: str | None = None,
    *,
    rectangle: tuple[float, float, float, float] | None = None,
) -> Pixels:
    """Paint a heatmap over a picture.

    Without a preset: the map is clipped to [0, 1] (never renormalised), enlarged bilinearly to
    the picture, coloured, and blended as ``(1 - alpha) * picture + alpha * colours``.

    Args:
        heatmap: floating-point [h, w], finite; signed values only for the preset `signed`.
        picture: anything :func:`onnxcam.pictures.open_picture` reads; for the preset
            `keras-additive` also a floating-point array [H, W], [H, W, 1] or [H, W, 3].
        alpha: weight of the colours; by default 0.4, or the preset's own.
        colormap: a name of :data:`onnxcam.colormaps.COLORMAPS` or a uint8 array [256, 3]; by
            default "jet" (OpenCV's), or the preset's own.
        out: uint8 [H, W, 3], contiguous, to write into; may be the picture itself.
        preset: None, or a name of :data:`PRESETS`:
            `keras-additive` adds ``alpha * colours`` to the picture and rescales the sum to
            0..255, colours first enlarged, as the Keras tutorials do (alpha 0.4);
            `signed` scales the bicubically enlarged map from its own minimum to its own maximum
            (alpha 0.5, matplotlib's jet);
            `pytorch-grad-cam` is that library's scaling and show_cam_on_image (alpha 0.5).
        rectangle: where the map lies in the picture, (left, top, right, bottom) in its pixels;
            zero heat outside. By default the whole picture.

    Returns:
        uint8 [H, W, 3], RGB: `out` where given.

    Raises:
        InputError: a map that is not two-dimensional and finite, alpha out of range, a wrong `out`.
        MethodError: an unknown preset or colormap.
        PictureError: an unreadable picture.

    Examples:
        >>> import numpy as np
        >>> overlay(np.eye(2, dtype=np.float32), np.zeros((4, 4, 3), np.uint8)).shape
        (4, 4, 3)
    """
    chosen = _find_preset(preset)
    pixels = _picture(picture, chosen.float_pictures)
    job = Job(
        values=_values(heatmap),
        rectangle=_rectangle(rectangle, pixels),
        picture=pixels,
        alpha=_alpha(chosen.alpha if alpha is None else alpha, chosen.float_pictures),
        colors=find_colormap(chosen.colormap if colormap is None else colormap),
    )
    if out is not None:
        check_out(out, (*job.size, 3), np.uint8)
    painted = chosen.paint(job)
    if out is None:
        return painted
    out[...] = painted
    return out


def place(values: Map, rectangle: Rectangle, size: tuple[int, int]) -> Map:
    """Enlarge a map bilinearly into a rectangle of a picture of `size` (H, W); zero outside."""
    from onnxcam import kernels

    out = np.empty(size, np.float32)
    kernels.resize_map_bilinear(values, *rectangle, out)
    return out


def check_out(out: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise InputError unless `out` is a writeable, contiguous array of this shape and dtype."""
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        found = f"{out.dtype} {list(out.shape)}" if isinstance(out, np.ndarray) else repr(out)
        raise InputError(f"out: expected {np.dtype(dtype)} {list(shape)}, got {found}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise InputError("out: expected a writeable, C-contiguous array")


def _blend(job: Job) -> Pixels:
    return _blended(job, place(job.values, job.rectangle, job.size))


def _blended(job: Job, heat: Map) -> Pixels:
    from onnxcam import kernels

    colored = _colored(heat, job.colors)
    kernels.blend(job.picture, colored, job.alpha, colored)
    return colored


def _colored(heat: Map, colors: Pixels) -> Pixels:
    from onnxcam import kernels

    out = np.empty((*heat.shape, 3), np.uint8)
    kernels.colorize(heat, colors, out)
    return out


def _keras_additive(job: Job) -> Pixels:
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


def _signed(job: Job) -> Pixels:
    from onnxcam import kernels

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


def _pytorch_grad_cam(job: Job) -> Pixels:
    heat = _from_0_to_1(place(_from_0_to_1(job.values), job.rectangle, job.size))
    colored = _colored(heat, job.colors).astype(np.float32) / 255
    mixed = job.alpha * colored + (1 - job.alpha) * (job.picture.astype(np.float32) / 255)
    return (255 * (mixed / (mixed.max() or 1))).astype(np.uint8)


def _from_0_to_1(values: Map) -> Map:
    values = values - values.min()
    return np.asarray(values / (np.float32(1e-7) + values.max()))


PRESETS: dict[str, Preset] = {
    "keras-additive": Preset(0.4, "jet-matplotlib", _keras_additive, float_pictures=True),
    "signed": Preset(0.5, "jet-matplotlib", _signed),
    "pytorch-grad-cam": Preset(0.5, "jet", _pytorch_grad_cam),
}
_DEFAULT = Preset(0.4, "jet", _blend)


def _find_preset(name: str | None) -> Preset:
    if name is None:
        return _DEFAULT
    if name not in PRESETS:
        raise MethodError(f"preset '{name}' is unknown; known are {', '.join(PRESETS)}")
    return PRESETS[name]


def _inside(job: Job) -> tuple[slice, slice]:
    """Rows and columns of the picture whose centres lie in the rectangle; at least one each."""
    left, top, right, bottom = job.rectangle
    return _span(top, bottom, job.size[0]), _span(left, right, job.size[1])


def _span(low: float, high: float, size: int) -> slice:
    start = min(max(math.ceil(low - 0.5), 0), size - 1)
    return slice(start, min(max(math.ceil(high - 0.5), start + 1), size))


def _values(heatmap: Any) -> Map:
    array = np.asarray(heatmap)
    if array.ndim != 2 or array.size == 0 or not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"heatmap: expected float32 [h, w], got {array.dtype} {list(array.shape)}")
    if not np.isfinite(array).all():
        raise InputError("heatmap: holds NaN or infinite values")
    return np.ascontiguousarray(array, np.float32)


def _picture(picture: Any, float_pictures: bool) -> NDArray[Any]:
    is_float = isinstance(picture, np.ndarray) and np.issubdtype(picture.dtype, np.floating)
    if not (float_pictures and is_float):
        return open_picture(picture)
    values = picture.reshape(*picture.shape, 1) if picture.ndim == 2 else picture
    if values.ndim != 3 or values.shape[2] not in (1, 3) or values.size == 0:
        raise InputError(
            f"picture: expected [H, W], [H, W, 1] or [H, W, 3], got {list(picture.shape)}"
        )
    if not np.isfinite(values).all():
        raise InputError("picture: holds NaN or infinite values")
    return np.broadcast_to(values, (*values.shape[:2], 3))


def _alpha(alpha: Any, unbounded: bool) -> float:
    if isinstance(alpha, (int, float, np.number)):
        value = float(alpha)
        if math.isfinite(value) and value >= 0 and (unbounded or value <= 1):
            return value
    limits = "0 or more" if unbounded else "0 to 1"
    raise InputError(f"alpha: expected a number, {limits}, got {alpha!r}")


def _rectangle(rectangle: Any, picture: NDArray[Any]) -> Rectangle:
    if rectangle is None:
        return Rectangle.whole(picture)
    found = Rectangle(*(float(side) for side in rectangle))
    if not (found.left < found.right and found.top < found.bottom):
        raise InputError(f"rectangle: expected left < right and top < bottom, got {rectangle}")
    return found
