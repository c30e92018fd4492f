"""From pictures to the input tensor, and the part of each picture that the model saw."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxcam.buffers import Place, new_array
from onnxcam.contract import Preprocessing
from onnxcam.errors import PictureError
from onnxcam.pictures import Pixels
from onnxcam.resampling import taps

# Without antialiasing the whole picture is resized before it is cropped.
_MAX_RESIZED_PIXELS = 1 << 27
# What the kernels accept; otherwise only the crop is computed.
_MAX_RESIZED_SIDE = 10**9


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


class Window(NamedTuple):
    """What of a resized picture the model sees: all of it in pixels, and where the part begins."""

    height: int
    width: int
    top: int
    left: int


class Preparation:
    """From pictures to the model's input, by one preprocessing; safe to share between threads.

    The tensor is ``(pixel * scale - mean) / std``, computed once for every byte, in float64.

    Args:
        preprocess: what to do.
        layout: "NCHW" or "NHWC".
        dtype: the tensor's; integer dtypes are rounded and clipped to their range.
    """

    def __init__(self, preprocess: Preprocessing, layout: str, dtype: Any) -> None:
        self.preprocess = preprocess
        self.dtype = np.dtype(dtype)
        self._channels_last = layout == "NHWC"
        self._tables = _tables(preprocess, self.dtype)
        self._bytes = np.tile(np.arange(256, dtype=np.uint8), (preprocess.channels, 1))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one picture's tensor: [C, h, w] or [h, w, C]."""
        (h, w), channels = self.preprocess.size, self.preprocess.channels
        return (h, w, channels) if self._channels_last else (channels, h, w)

    def fill(
        self, picture: Pixels, out: NDArray[Any], *, bgr: bool = False, place: Place = new_array
    ) -> Rectangle:
        """Resize, crop, normalise and lay out one picture.

        With `crop` as torchvision's Resize and CenterCrop: the longer side is truncated to a whole
        number, the crop's offset rounded. The pixels are Pillow's, byte for byte; without
        antialiasing OpenCV's, within one level.

        Args:
            picture: uint8 RGB [H, W, 3], contiguous.
            out: an item of the input tensor, of `shape` and the dtype, contiguous.
            bgr: the picture is BGR, as OpenCV reads it.
            place: where work space comes from.

        Returns:
            The part of the picture that the tensor shows.

        Raises:
            PictureError: the picture is so narrow that its resized form would have more than 1e9
                pixels a side, or without antialiasing would fill the memory.
        """
        backwards = bgr != (self.preprocess.color == "BGR")
        window = _window(picture.shape[0], picture.shape[1], self.preprocess)
        if max(window.height, window.width) > _MAX_RESIZED_SIDE:
            raise _too_narrow(picture, self.preprocess)
        seen = _seen(picture.shape[0], picture.shape[1], window, self.preprocess)
        if self.preprocess.color == "GRAY":
            picture, backwards = _gray(picture, bgr, place), False
        resize = self.preprocess.resize
        if resize.filter != "nearest" and not resize.antialias:
            picture = _without_antialias(picture, window, self.preprocess)
            window = Window(*self.preprocess.size, 0, 0)
        if self.dtype in (np.float32, np.uint8):
            self._resample(picture, window, self._tables, backwards, out, place)
            return seen
        pixels = place("pixels", self.shape, np.uint8)
        self._resample(picture, window, self._bytes, backwards, pixels, place)
        for c, table in enumerate(self._tables):
            channel = (..., c) if self._channels_last else (c,)
            out[channel] = table[pixels[channel]]
        return seen

    def _resample(
        self,
        picture: Pixels,
        window: Window,
        table: NDArray[Any],
        backwards: bool,
        out: NDArray[Any],
        place: Place,
    ) -> None:
        from onnxcam import compiled

        (h, w), channels = self.preprocess.size, picture.shape[2]
        filter_name = self.preprocess.resize.filter
        rows = taps(picture.shape[0], window.height, window.top, h, filter_name)
        columns = taps(picture.shape[1], window.width, window.left, w, filter_name, channels)
        missing = columns.weights.shape[1] // channels - picture.shape[1]
        if missing > 0:  # a few columns wide; what is added has weight zero
            picture = np.pad(picture, ((0, 0), (0, missing), (0, 0)))
        to_bytes = table.dtype == np.uint8
        function = compiled.picture_to_uint8 if to_bytes else compiled.picture_to_float32
        function(
            picture.reshape(len(picture), -1),
            *columns,
            *rows,
            table,
            int(self._channels_last),
            int(backwards),
            out.reshape(-1),
        )


def _window(height: int, width: int, preprocess: Preprocessing) -> Window:
    resize = preprocess.resize
    h, w = preprocess.size
    if resize.mode == "stretch":
        return Window(h, w, 0, 0)
    assert resize.shorter_side is not None  # Resize has checked it
    longer = int(resize.shorter_side * max(height, width) / min(height, width))
    full_h, full_w = resize.shorter_side, longer
    if height > width:
        full_h, full_w = longer, resize.shorter_side
    return Window(full_h, full_w, round((full_h - h) / 2), round((full_w - w) / 2))


def _seen(height: int, width: int, window: Window, preprocess: Preprocessing) -> Rectangle:
    h, w = preprocess.size
    return Rectangle(
        window.left * width / window.width,
        window.top * height / window.height,
        (window.left + w) * width / window.width,
        (window.top + h) * height / window.height,
    )


def _gray(picture: Pixels, bgr: bool, place: Place) -> Pixels:
    from onnxcam import compiled

    gray = place("gray", picture.shape[:2], np.uint8)
    compiled.gray_of(picture, int(bgr), gray)
    return gray[..., None]


def _without_antialias(picture: Pixels, window: Window, preprocess: Preprocessing) -> Pixels:
    from onnxcam import compiled

    height, width = picture.shape[:2]
    h, w = preprocess.size
    if (height, width) != (window.height, window.width):
        if window.height * window.width > max(_MAX_RESIZED_PIXELS, height * width):
            raise _too_narrow(picture, preprocess)
        function = {
            "bilinear": compiled.resize_picture_bilinear,
            "bicubic": compiled.resize_picture_bicubic,
        }[preprocess.resize.filter]
        resized = np.empty((window.height, window.width, picture.shape[2]), np.uint8)
        function(picture, resized)
        picture = resized
    top, left = window.top, window.left
    return np.ascontiguousarray(picture[top : top + h, left : left + w])


def _too_narrow(picture: Pixels, preprocess: Preprocessing) -> PictureError:
    height, width = picture.shape[:2]
    return PictureError(
        f"picture of {width}x{height} pixels: too narrow to scale its shorter side "
        f"to {preprocess.resize.shorter_side}"
    )


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
