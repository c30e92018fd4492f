"""From pictures to the input tensor, and the part of each picture that the model saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.contract import Preprocessing
from onnxcam.errors import PictureError
from onnxcam.pictures import Pixels

_PILLOW_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# Scaling a picture of one row to a shorter side of 256 would take gigabytes.
_MAX_RESIZED_PIXELS = 1 << 27


class Rectangle(NamedTuple):
    """A part of a picture, in its pixels: x from `left` to `right`, y from `top` to `bottom`."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def whole(cls, picture: NDArray[Any]) -> Rectangle:
        """All of a picture [H, W, ...]."""
        return cls(0.0, 0.0, float(picture.shape[1]), float(picture.shape[0]))


def fit(picture: Pixels, preprocess: Preprocessing) -> tuple[Pixels, Rectangle]:
    """Resize, and crop where the preprocessing says so, to the model's input size.

    With `crop` as torchvision's Resize and CenterCrop: the longer side is truncated to a whole
    number, the crop's offset rounded.

    Args:
        picture: uint8 RGB [H, W, 3].
        preprocess: what to do.

    Returns:
        uint8 [h, w, C] with the tensor's colour order (C = 1 for GRAY), and the rectangle of
        `picture` that it shows.

    Raises:
        PictureError: the picture is so narrow that its resized form would fill the memory.
    """
    height, width = picture.shape[:2]
    h, w = preprocess.size
    picture = _in_color(picture, preprocess.color)
    resize = preprocess.resize
    if resize.mode == "stretch":
        return _resized(picture, h, w, preprocess), Rectangle.whole(picture)
    assert resize.shorter_side is not None  # Resize has checked it
    longer = int(resize.shorter_side * max(height, width) / min(height, width))
    full_h, full_w = resize.shorter_side, longer
    if height > width:
        full_h, full_w = longer, resize.shorter_side
    if full_h * full_w > max(_MAX_RESIZED_PIXELS, height * width):
        raise PictureError(
            f"picture of {width}x{height} pixels: too narrow to scale its shorter side "
            f"to {resize.shorter_side}"
        )
    top, left = round((full_h - h) / 2), round((full_w - w) / 2)
    crop = _resized(picture, full_h, full_w, preprocess)[top : top + h, left : left + w]
    to_x, to_y = width / full_w, height / full_h
    seen = Rectangle(left * to_x, top * to_y, (left + w) * to_x, (top + h) * to_y)
    return crop, seen


def to_tensor(
    pictures: Sequence[Pixels], preprocess: Preprocessing, layout: str, dtype: Any
) -> NDArray[Any]:
    """Scale and normalise fitted pictures: ``(pixel * scale - mean) / std``.

    Args:
        pictures: uint8 [h, w, C] each, from :func:`fit`.
        preprocess: scale, mean and std.
        layout: "NCHW" or "NHWC".
        dtype: the tensor's; integer dtypes are rounded and clipped to their range.

    Returns:
        A contiguous tensor [N, C, h, w] or [N, h, w, C].
    """
    h, w = preprocess.size
    channels = preprocess.channels
    shape = (channels, h, w) if layout == "NCHW" else (h, w, channels)
    tensor = np.empty((len(pictures), *shape), dtype)
    tables = _tables(preprocess, np.dtype(dtype))
    for item, picture in zip(tensor, pictures, strict=True):
        for c in range(channels):
            plane = item[c] if layout == "NCHW" else item[..., c]
            plane[...] = tables[c][picture[..., c]]
    return tensor


def _tables(preprocess: Preprocessing, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The value of every pixel value in every channel, [C, 256]: computed once, in float64."""
    shape = (preprocess.channels, 1)
    mean = np.broadcast_to(np.reshape(preprocess.mean, (-1, 1)), shape)
    std = np.broadcast_to(np.reshape(preprocess.std, (-1, 1)), shape)
    values = (np.arange(256) * preprocess.scale - mean) / std
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.rint(values).clip(limits.min, limits.max)
    return np.asarray(values, dtype)


def _in_color(picture: Pixels, color: str) -> Pixels:
    if color == "GRAY":
        return np.asarray(Image.fromarray(picture).convert("L"))[..., None]
    return picture[..., ::-1] if color == "BGR" else picture


def _resized(picture: Pixels, h: int, w: int, preprocess: Preprocessing) -> Pixels:
    if picture.shape[:2] == (h, w):
        return picture
    resize = preprocess.resize
    if resize.filter == "nearest" or resize.antialias:
        source = picture[..., 0] if picture.shape[2] == 1 else picture
        image = Image.fromarray(np.ascontiguousarray(source))
        resized = np.asarray(image.resize((w, h), _PILLOW_FILTERS[resize.filter]))
        return resized.reshape(h, w, picture.shape[2])
    from onnxcam import kernels

    function = {
        "bilinear": kernels.resize_picture_bilinear,
        "bicubic": kernels.resize_picture_bicubic,
    }[resize.filter]
    out = np.empty((h, w, picture.shape[2]), np.uint8)
    function(np.ascontiguousarray(picture), out)
    return out
