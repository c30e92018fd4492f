"""An overlay like one before: the same shapes and options, other arrays.

Of an overlay of 224x224 the kernel's part is 12 us, of which nothing here changes. Checking the
arguments and finding out what to call takes Python as long if the processor's caches hold its code,
and four times as long if not, as in a program that runs a network in between. So what a call comes
to is kept, by shapes and options.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from onnxcam import compiled
from onnxcam.fused import WORTH_THREADS, Way, kernel_of
from onnxcam.native.loader import REFUSED, address, address_of, byte_of
from onnxcam.pictures import Pixels
from onnxcam.preprocess import Rectangle

_UINT8, _FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)
Shape = tuple[int, ...]
# From an overlay's options to how it is painted, in which colours and where in the picture (None:
# all over it); None where the map or the picture have to be looked at first.
Choose = Callable[..., tuple[Way, Pixels, Rectangle | None] | None]


class Repeated:
    """Overlays of maps and pictures of one shape each, with one set of options."""

    def __init__(
        self,
        way: Way,
        colors: Pixels,
        rectangle: Rectangle | None,
        values: Shape,
        picture: Shape,
    ) -> None:
        height, width, channels = picture
        self.shape = (height, width, 4 if channels == 4 else 3)
        name, known = kernel_of(
            way, colors, rectangle or Rectangle(0.0, 0.0, width, height), channels
        )
        known |= {"first": 0, "last": height}
        shapes = {"values": values, "picture": picture, "out": self.shape}
        self._call = compiled.prepare(name, known, shapes)
        self._bytes = 4 * values[0] * values[1], height * width * channels, int(np.prod(self.shape))

    @property
    def can_paint(self) -> bool:
        """Whether there is a library whose calls can be prepared."""
        return self._call is not None

    def paint(self, values: Any, picture: Any, out: Any) -> bool:
        """Paint into `out`; False, and nothing done, where the arrays want a closer look.

        That is: where one is not contiguous or `out` is read-only, where one shares memory with
        `out` without being the picture itself, or where the kernel finds fault with the values.
        """
        if not (values.flags.c_contiguous and picture.flags.c_contiguous):
            return False
        try:  # refused unless writeable and contiguous
            three = address_of(byte_of(out))
        except REFUSED:
            return False
        one, two = address(values), address(picture)
        of_values, of_picture, of_out = self._bytes
        in_place = two == three and of_picture == of_out
        if not in_place and two < three + of_out and three < two + of_picture:
            return False
        if one < three + of_out and three < one + of_values:
            return False
        assert self._call is not None
        return self._call(one, two, three) == 0


def paint_again(
    choose: Choose, values: Any, picture: Any, out: Any, options: tuple[Any, ...]
) -> Pixels | None:
    """The overlay, where it is like one before or could be; None where it has to be checked.

    `options` are the arguments of `choose`.
    """
    try:
        if values.dtype is not _FLOAT32 or picture.dtype is not _UINT8:
            return None
        found = _found(choose, values.shape, picture.shape, *options)
        if found is None:
            return None
        if out is None:
            if found.shape[2] == 4:  # without a place for its alpha, RGBA is laid over white
                return None
            out = np.empty(found.shape, _UINT8)
        elif out.dtype is not _UINT8 or out.shape != found.shape:
            return None
    except (AttributeError, TypeError):  # no arrays; or options that can't be a key
        return None
    return out if found.paint(values, picture, out) else None


# Typed: True is not 1 here.
@functools.lru_cache(maxsize=64, typed=True)
def _found(choose: Choose, values: Shape, picture: Shape, *options: Any) -> Repeated | None:
    if len(values) != 2 or len(picture) != 3 or picture[2] not in (1, 3, 4):
        return None
    if 0 in values or 0 in picture or picture[0] * picture[1] >= WORTH_THREADS:
        return None
    chosen = choose(*options)
    found = Repeated(*chosen, values, picture) if chosen else None
    return found if found and found.can_paint else None
