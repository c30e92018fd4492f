"""Whatever a user calls a picture, as uint8 RGB [H, W, 3]."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from onnxcam.errors import PictureError

Pixels: TypeAlias = NDArray[np.uint8]
PictureLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | Pixels"

_BACKGROUND = (255, 255, 255)
_GREY_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


def open_picture(source: PictureLike) -> Pixels:
    """Read a picture as it looks in a viewer.

    The EXIF orientation is applied; palette, greyscale and CMYK are converted; 16-bit greyscale
    is scaled to 8 bits; of an animation the first frame is taken. Transparent pixels are laid
    over white: the colours hidden beneath them are arbitrary.

    Args:
        source: a path, the bytes of a file, a PIL image, or a uint8 array [H, W], [H, W, 1],
            [H, W, 3] (RGB) or [H, W, 4] (RGBA).

    Returns:
        A contiguous uint8 array [H, W, 3], RGB.

    Raises:
        PictureError: not a picture, truncated, zero-sized, a decompression bomb, or an array
            of another dtype or shape.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    name = _name(source)
    try:
        if isinstance(source, Image.Image):
            return _from_image(source, name)
        if isinstance(source, (bytes, bytearray, memoryview)):
            with Image.open(io.BytesIO(source)) as image:
                return _from_image(image, name)
        if isinstance(source, (str, os.PathLike)):
            with Image.open(_existing(Path(source))) as image:
                return _from_image(image, name)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"{name}: not a picture of a known format") from error
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"{name}: {error}; if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except Exception as error:  # decoders raise whatever comes: OSError, SyntaxError, struct.error
        raise PictureError(f"{name}: cannot be decoded ({error})") from error
    raise PictureError(
        "picture: expected a path, bytes, a PIL image or a uint8 array, "
        f"got {type(source).__name__}"
    )


def is_batch(source: Any) -> bool:
    """Whether `source` is several pictures: a list, a tuple, or an array [N, H, W, C]."""
    if isinstance(source, np.ndarray):
        return source.ndim == 4
    return isinstance(source, Sequence) and not isinstance(source, (str, bytes, bytearray))


def _name(source: Any) -> str:
    if isinstance(source, (str, os.PathLike)):
        return f"picture '{os.fspath(source)}'"
    filename = getattr(source, "filename", None)
    return f"picture '{filename}'" if filename else "picture"


def _existing(path: Path) -> Path:
    if not path.exists():
        raise PictureError(f"picture '{path}': no such file")
    if path.is_dir():
        raise PictureError(f"picture '{path}': is a folder")
    if path.stat().st_size == 0:
        raise PictureError(f"picture '{path}': the file is empty")
    return path


def _from_array(array: NDArray[Any]) -> Pixels:
    if array.dtype != np.uint8:
        raise PictureError(
            f"picture: expected a uint8 array with values 0 to 255, got {array.dtype}; "
            "scale and convert it, or hand the finished tensor to Engine.maps()"
        )
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if channels not in (1, 3, 4):
        raise PictureError(
            "picture: expected an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], "
            f"got {list(array.shape)}"
        )
    if array.size == 0:
        raise PictureError(f"picture: the array is empty, {list(array.shape)}")
    if channels == 1:
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    if channels == 4:
        return _pixels(_over_background(Image.fromarray(np.ascontiguousarray(array))))
    return np.ascontiguousarray(array)


def _from_image(image: Image.Image, name: str) -> Pixels:
    if 0 in image.size:
        raise PictureError(f"{name}: is zero-sized, {image.width}x{image.height}")
    image.load()
    return _pixels(_to_rgb(_upright(image), name))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # malformed EXIF says nothing about the orientation; the pixels are fine
        return image


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in _GREY_16_BIT or image.mode == "I":
        return _from_16_bit(image, name)
    if image.mode == "F":
        raise PictureError(f"{name}: holds floating-point values; convert it to 8 bits")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        return _over_background(image.convert("RGBA"))
    return image.convert("RGB")


def _from_16_bit(image: Image.Image, name: str) -> Image.Image:
    # Pillow's convert() clips such values at 255.
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError(
            f"{name}: expected greyscale values of 16 bits, found {values.min()} to {values.max()}"
        )
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _over_background(image: Image.Image) -> Image.Image:
    background = Image.new("RGBA", image.size, (*_BACKGROUND, 255))
    return Image.alpha_composite(background, image).convert("RGB")


def _pixels(image: Image.Image) -> Pixels:
    return np.array(image, dtype=np.uint8)
