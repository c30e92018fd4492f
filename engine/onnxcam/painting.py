"""Heatmap over picture.

The default paints as the OpenCV tutorials do. Other ways of laying colours over a picture are
rows of the table :data:`BLENDS`; the conventions of other libraries, with their own arithmetic, are
presets, rows of the table :data:`PRESETS`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxcam.colormaps import find_colormap
from onnxcam.conventions import Job, keras_additive, place, pytorch_grad_cam, signed
from onnxcam.errors import InputError, MethodError
from onnxcam.fused import CODES, CONTOURS, Painting, Way, paint
from onnxcam.pictures import PictureLike, Pixels, open_picture
from onnxcam.preprocess import Rectangle
from onnxcam.repeated import paint_again

__all__ = ["BLENDS", "INTERPOLATIONS", "PRESETS", "check_out", "overlay", "place"]

Map = NDArray[np.float32]

# name -> its usual alpha
BLENDS: dict[str, float] = {
    "alpha": 0.4,
    "additive": 0.4,
    "map-alpha": 0.7,
    "heat": 1.0,
    CONTOURS: 1.0,
}
INTERPOLATIONS = ("bilinear", "bicubic")


class Preset(NamedTuple):
    """A convention: its usual alpha and colormap, and its function from a job to pixels.

    Without a function it is a way of scaling the map, and any blend goes with it.
    """

    alpha: float
    colormap: str
    paint: Callable[[Job], Pixels] | None
    float_pictures: bool = False


PRESETS: dict[str, Preset] = {
    "keras-additive": Preset(0.4, "jet-matplotlib", keras_additive, float_pictures=True),
    "signed": Preset(0.5, "jet-matplotlib", signed),
    "pytorch-grad-cam": Preset(0.5, "jet", pytorch_grad_cam),
    "diverging": Preset(0.5, "coolwarm", None),
}
# Presets that show the map before its ReLU.
OF_SIGNED_MAPS = ("signed", "diverging")
_DEFAULT = Preset(0.4, "jet", None)


def overlay(
    heatmap: NDArray[Any],
    picture: PictureLike | NDArray[Any],
    alpha: float | None = None,
    colormap: str | NDArray[Any] | None = None,
    out: Pixels | None = None,
    preset: str | None = None,
    *,
    rectangle: tuple[float, float, float, float] | None = None,
    blend: str | None = None,
    interpolation: str | None = None,
    levels: Sequence[float] | None = None,
    line_width: float = 1.5,
    antialias: bool = True,
    bgr: bool = False,
    threads: int = 1,
) -> Pixels:
    """Paint a heatmap over a picture.

    Without a preset: the map is clipped to [0, 1] (never renormalised), enlarged to the picture,
    coloured, and blended.

    Args:
        heatmap: floating-point [h, w], finite; signed values only for the presets `signed` and
            `diverging`.
        picture: anything :func:`onnxcam.pictures.open_picture` reads; for the preset
            `keras-additive` also a floating-point array [H, W], [H, W, 1] or [H, W, 3].
        alpha: weight of the colours; by default the blend's or the preset's own.
        colormap: a name of :data:`onnxcam.colormaps.COLORMAPS` or a uint8 array [256, 3]; by
            default "jet" (OpenCV's), or the preset's own.
        out: uint8 [H, W, 3] to write into, pixels of a row adjacent, rows as far apart as they
            like; may be the picture itself. If the picture is an array [H, W, 4] (RGBA) and so is
            `out`, its alpha channel is kept; otherwise such a picture is laid over white.
        preset: None, or a name of :data:`PRESETS`:
            `keras-additive` adds ``alpha * colours`` to the picture and rescales the sum to
            0..255, colours first enlarged, as the Keras tutorials do (alpha 0.4);
            `signed` scales the bicubically enlarged map from its own minimum to its own maximum
            (alpha 0.5, matplotlib's jet);
            `pytorch-grad-cam` is that library's scaling and show_cam_on_image (alpha 0.5);
            `diverging` is for signed maps: divided by its largest magnitude, zero has the middle
            colour (alpha 0.5, coolwarm). Any blend goes with it; the other three have their own.
        rectangle: where the map lies in the picture, (left, top, right, bottom) in its pixels;
            zero heat outside. By default the whole picture.
        blend: a name of :data:`BLENDS`, by default `alpha`:
            `alpha` is OpenCV's addWeighted, ``(1 - alpha) * picture + alpha * colours`` (0.4);
            `additive` is ``picture + alpha * colours``, at most 255 (0.4; the Keras tutorials
            rescale afterwards, see the preset);
            `map-alpha` is `alpha` with a weight of ``alpha * map``: nothing is painted where the
            map is zero (0.7);
            `heat` is the colours alone, without the picture;
            `contours` draws lines where the map crosses `levels`, in their colours (1.0).
        interpolation: how the map is enlarged, "bilinear" (the default) or "bicubic", as OpenCV
            does both.
        levels: of the contours, between 0 and 1 (-1 and 1 for `diverging`); by default 0.25, 0.5,
            0.75 (for `diverging` -0.5 and 0.5).
        line_width: of the contours, in pixels.
        antialias: contours cover pixels in part.
        bgr: the picture is an array in OpenCV's order, blue first, and so is the result.
        threads: how many may work on a picture of half a megapixel or more.

    Returns:
        uint8 [H, W, 3], RGB: `out` where given.

    Raises:
        InputError: a map that is not two-dimensional and finite, a number out of range, a wrong
            `out`.
        MethodError: an unknown preset, blend, interpolation or colormap, or options that do not go
            together.
        PictureError: an unreadable picture.

    Examples:
        >>> import numpy as np
        >>> overlay(np.eye(2, dtype=np.float32), np.zeros((4, 4, 3), np.uint8)).shape
        (4, 4, 3)
    """
    look = (preset, blend, alpha, interpolation, levels, line_width, antialias, bgr, threads)
    painted = paint_again(_choose, heatmap, picture, out, (colormap, rectangle, *look))
    if painted is not None:
        return painted
    chosen = _find_preset(preset)
    if chosen.paint is not None:
        taken = {"blend": blend, "interpolation": interpolation, "levels": levels}
        if bgr:
            taken["bgr"] = "True"
        _refuse(f"preset '{preset}' has its own way of painting", taken)
        return _by_convention(chosen, heatmap, picture, alpha, colormap, out, rectangle)
    options = _options_of(*look)
    if bgr and not isinstance(picture, np.ndarray):
        raise MethodError("bgr=True is for arrays; files and PIL images are read as RGB")
    pixels = _pixels(picture, out)
    job = Painting(
        _centred(heatmap) if options.diverging else _values(heatmap),
        _rectangle(rectangle, pixels),
        pixels,
        _colors_of(chosen, colormap),
        options.way,
    )
    height, width, channels = pixels.shape
    shape = (height, width, 4 if channels == 4 else 3)
    if out is None:
        out = np.empty(shape, np.uint8)
    else:
        check_out(out, shape, np.uint8, rows=True)
    try:
        paint(job, out, options.threads)
    except InputError:  # the kernels look for NaN themselves, and faster
        _check_finite(heatmap)
        raise
    return out


def _choose(
    colormap: str | None, rectangle: Any, preset: str | None, *look: Any
) -> tuple[Way, Pixels, Rectangle | None] | None:
    """How, in which colours and where to paint, if that does not depend on what the map holds.

    `look` are the further arguments of `_options`.
    """
    chosen = _find_preset(preset)
    if chosen.paint is not None:
        return None
    options = _options_of(preset, *look)
    if options.diverging:
        return None
    place_of_map = None if rectangle is None else _checked(rectangle)
    return options.way, _colors_of(chosen, colormap), place_of_map


def _colors_of(chosen: Preset, colormap: str | NDArray[Any] | None) -> Pixels:
    return find_colormap(chosen.colormap if colormap is None else colormap)


class _Options(NamedTuple):
    """Options of an overlay that were found to be good."""

    way: Way
    diverging: bool
    threads: int


def _options_of(*given: Any) -> _Options:
    try:
        return _options(*given)
    except TypeError:  # something that can't be a key, such as a list of levels
        return _options.__wrapped__(*given)


# Typed: True is not 1 here. Looking a call's options up takes 0.5 us, checking them 3.
@functools.lru_cache(maxsize=64, typed=True)
def _options(
    preset: str | None,
    blend: str | None,
    alpha: Any,
    interpolation: str | None,
    levels: Any,
    line_width: Any,
    antialias: Any,
    bgr: Any,
    threads: Any,
) -> _Options:
    blend = _one_of("blend", blend or "alpha", (*CODES, CONTOURS))
    if blend == "heat":
        _refuse("blend 'heat' is the colours alone", {"alpha": alpha})
    if blend != CONTOURS:
        _refuse(f"blend '{blend}' draws no lines", {"levels": levels})
    kind = _one_of("interpolation", interpolation or "bilinear", INTERPOLATIONS)
    diverging = preset == "diverging"
    usual = BLENDS[blend] if blend != "alpha" else _find_preset(preset).alpha
    way = Way(
        alpha=_alpha(usual if alpha is None else alpha),
        blend=blend,
        bicubic=kind == "bicubic",
        background=0.5 if diverging else 0.0,
        bgr=bool(bgr),
        lines=_lines(levels, diverging) if blend == CONTOURS else None,
        line_width=_number("line_width", line_width, 0.1, 1000.0),
        smooth=bool(antialias),
    )
    return _Options(way, diverging, _threads(threads))


def check_out(out: Any, shape: tuple[int, ...], dtype: Any, rows: bool = False) -> None:
    """Raise InputError unless `out` is a writeable, contiguous array of this shape and dtype.

    With `rows` only its rows have to be contiguous.
    """
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        found = f"{out.dtype} {list(out.shape)}" if isinstance(out, np.ndarray) else repr(out)
        raise InputError(f"out: expected {np.dtype(dtype)} {list(shape)}, got {found}")
    adjacent = out.flags.c_contiguous or (rows and _has_rows(out))
    if not adjacent or not out.flags.writeable:
        wanted = "rows that are contiguous" if rows else "C-contiguous"
        raise InputError(f"out: expected a writeable array, {wanted}")


def _has_rows(array: NDArray[Any]) -> bool:
    return bool(array[0].flags.c_contiguous and array.strides[0] >= array[0].nbytes)


def _by_convention(
    preset: Preset,
    heatmap: Any,
    picture: Any,
    alpha: Any,
    colormap: Any,
    out: Pixels | None,
    rectangle: Any,
) -> Pixels:
    assert preset.paint is not None
    pixels = _picture(picture, preset.float_pictures)
    values = _values(heatmap)
    _check_finite(values)
    job = Job(
        values=values,
        rectangle=_rectangle(rectangle, pixels),
        picture=pixels,
        alpha=_alpha(preset.alpha if alpha is None else alpha, preset.float_pictures),
        colors=_colors_of(preset, colormap),
    )
    if out is not None:
        check_out(out, (*job.size, 3), np.uint8, rows=True)
    painted = preset.paint(job)
    if out is None:
        return painted
    out[...] = painted
    return out


def _find_preset(name: str | None) -> Preset:
    if name is None:
        return _DEFAULT
    if name not in PRESETS:
        raise MethodError(f"preset '{name}' is unknown; known are {', '.join(PRESETS)}")
    return PRESETS[name]


def _one_of(what: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise MethodError(f"{what} '{name}' is unknown; known are {', '.join(known)}")
    return name


def _refuse(reason: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise MethodError(f"{reason}; leave out {name}")


def _pixels(picture: Any, out: Any) -> Pixels:
    """The picture as uint8 [H, W, C]: gray and RGB arrays as they are, RGBA only into RGBA."""
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.size:
        array = picture[:, :, None] if picture.ndim == 2 else picture
        keep_alpha = isinstance(out, np.ndarray) and out.ndim == 3 and out.shape[2] == 4
        if array.ndim == 3 and array.shape[2] in ((1, 3, 4) if keep_alpha else (1, 3)):
            adjacent = array.flags.c_contiguous or _has_rows(array)
            return array if adjacent else np.ascontiguousarray(array)
    return open_picture(picture)


def _centred(heatmap: Any) -> Map:
    """Divided by the largest magnitude, then 0 at 0.5."""
    values = _values(heatmap)
    _check_finite(values)
    largest = float(np.abs(values).max())
    if largest == 0:
        return np.full_like(values, 0.5)
    return np.asarray(0.5 + 0.5 * (values / np.float32(largest)), np.float32)


def _lines(levels: Sequence[float] | None, diverging: bool) -> NDArray[np.float32]:
    if levels is None:
        levels = (-0.5, 0.5) if diverging else (0.25, 0.5, 0.75)
    low = -1.0 if diverging else 0.0
    try:
        found = np.asarray(levels, np.float64).reshape(-1)
    except (TypeError, ValueError):
        found = np.empty(0)
    if not found.size or not ((found > low) & (found < 1)).all():
        raise InputError(f"levels: expected numbers between {low:g} and 1, got {levels!r}")
    return np.asarray(0.5 + 0.5 * found if diverging else found, np.float32)


def _threads(threads: Any) -> int:
    if isinstance(threads, (int, np.integer)) and not isinstance(threads, bool) and threads >= 1:
        return int(threads)
    raise InputError(f"threads: expected a whole number of at least 1, got {threads!r}")


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, (int, float, np.number)) and low <= float(value) <= high:
        return float(value)
    raise InputError(f"{name}: expected a number, {low:g} to {high:g}, got {value!r}")


def _values(heatmap: Any) -> Map:
    array = np.asarray(heatmap)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind != "f":
        raise InputError(f"heatmap: expected float32 [h, w], got {array.dtype} {list(array.shape)}")
    return np.ascontiguousarray(array, np.float32)


def _check_finite(heatmap: Any) -> None:
    if not np.isfinite(heatmap).all():
        raise InputError("heatmap: holds NaN or infinite values")


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


def _alpha(alpha: Any, unbounded: bool = False) -> float:
    if isinstance(alpha, (int, float, np.number)):
        value = float(alpha)
        if math.isfinite(value) and value >= 0 and (unbounded or value <= 1):
            return value
    limits = "0 or more" if unbounded else "0 to 1"
    raise InputError(f"alpha: expected a number, {limits}, got {alpha!r}")


def _rectangle(rectangle: Any, picture: NDArray[Any]) -> Rectangle:
    if rectangle is None:
        return Rectangle.whole(picture)
    return _checked(rectangle)


def _checked(rectangle: Any) -> Rectangle:
    found = Rectangle(*(float(side) for side in rectangle))
    if not (found.left < found.right and found.top < found.bottom):
        raise InputError(f"rectangle: expected left < right and top < bottom, got {rectangle}")
    if not max(map(abs, found)) <= 1e9:
        raise InputError(f"rectangle: expected pixels, -1e9 to 1e9, got {rectangle}")
    return found
