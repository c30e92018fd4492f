"""Every kernel of the library: a table.

From a row come the C function and its documentation, the checks of its arguments, and the Python
function that calls it. A row's parameters are the kernel's own, in its order and with its names.
In C an array is a pointer (for `rows` followed by its row stride in bytes), all
the work space is one block, and the sizes in the shapes are arguments of their own, at the end.
"""

from __future__ import annotations

import re
from math import inf
from typing import NamedTuple

SIZE_IN_BYTES = {"uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "int64": 8}
SIZE_IN_BYTES |= {"uint32": 4, "float32": 4, "float64": 8}


class Array(NamedTuple):
    """An array argument.

    `shape` holds numbers, names of sizes, and expressions of names that occur elsewhere. `role` is
    "in", "out" or "scratch" (the kernel's work space: its content means nothing). With `finite`
    NaN and infinity are refused. With `rows` the rows (the first axis) need not be adjacent. With
    `highest` the values are places: 0 to that expression, and never falling. `about` is a few
    words for the C header.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    role: str = "in"
    finite: bool = False
    rows: bool = False
    highest: str = ""
    about: str = ""


class Number(NamedTuple):
    """A finite number: `low` <= value <= `high`. The dtype "size" is as wide as a pointer."""

    name: str
    dtype: str
    low: float = -inf
    high: float = inf
    about: str = ""


Parameter = Array | Number


class Kernel(NamedTuple):
    """A row: a function that `onnxcam.kernels` exports, and its parameters.

    `sizes` limits sizes: (name, lowest, highest); any other is at least 1. `conditions` are
    expressions of numbers and sizes that have to be true.
    """

    name: str
    parameters: tuple[Parameter, ...]
    sizes: tuple[tuple[str, int, int], ...] = ()
    conditions: tuple[str, ...] = ()

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The parameters that are arrays."""
        return tuple(each for each in self.parameters if isinstance(each, Array))

    @property
    def scratch(self) -> tuple[Array, ...]:
        """The arrays that are work space."""
        return tuple(each for each in self.arrays if each.role == "scratch")

    @property
    def visible(self) -> tuple[Parameter, ...]:
        """The parameters that a caller gives: all but the work space."""
        return tuple(each for each in self.parameters if each not in self.scratch)

    @property
    def size_names(self) -> tuple[str, ...]:
        """The sizes in the shapes, in the order in which they occur."""
        sides = (side for array in self.arrays for side in array.shape)
        names = (name for side in sides for name in re.findall(r"[a-z]\w*", str(side)))
        return tuple(dict.fromkeys(names))


_SUMMARY = "minimum, maximum (of the finite values), how many are positive, how many not finite"
_ACTIVATION = Array("activation", "float32", ("images", "channels", "positions"))
_GRADIENT = Array("gradient", "float32", ("images", "targets", "channels", "positions"))
_WEIGHTS = Array("weights", "float32", ("images", "targets", "channels"))
_MAPS = (
    Array("raw", "float32", ("images", "targets", "positions"), "out", about="the signed maps"),
    Array(
        "finished",
        "float32",
        ("images", "targets", "positions"),
        "out",
        about="the maps through ReLU and divided by their maximum: 0 to 1; zero everywhere for a "
        "map without positive values, or with NaN or infinity",
    ),
    Array(
        "summary", "float64", ("images", "targets", 4), "out", about=f"of each raw map {_SUMMARY}"
    ),
)
_PIXELS = ("height", "width", 3)
_SMALL = ("source_height", "source_width")
_RECTANGLE = tuple(
    Number(side, "float64", -1e9, 1e9, f"{side} edge of the map's place, in pixels of `out`")
    for side in ("left", "top", "right", "bottom")
)
_RECTANGLE_HOLDS = ("left < right", "top < bottom")


def _method(name: str) -> Kernel:
    return Kernel(name, (_ACTIVATION, _GRADIENT, *_MAPS))


def _resize_map(name: str) -> Kernel:
    source = Array("source", "float32", _SMALL, finite=True, about="the map")
    out = Array("out", "float32", ("height", "width"), "out")
    return Kernel(name, (source, *_RECTANGLE, out), conditions=_RECTANGLE_HOLDS)


def _resize_picture(name: str) -> Kernel:
    source = Array("source", "uint8", (*_SMALL, "channels"))
    return Kernel(name, (source, Array("out", "uint8", ("height", "width", "channels"), "out")))


_RESIZE = (
    Number("size", "size", 1, 1e9),
    Number("resized", "size", 1, 1e9),
    Number("first", "size", 0, 1e9),
)
_FILTER = Number("kind", "int32", 0, 2, "0 nearest, 1 bilinear, 2 bicubic")


def _to_tensor(name: str, dtype: str) -> Kernel:
    parameters = (
        Array("picture", "uint8", ("source_height", "row_bytes")),
        Array("columns", "int64", ("width",), highest="(row_bytes - column_taps) // channels"),
        Array("column_weights", "int32", ("width", "column_taps")),
        Array("rows", "int64", ("height",), highest="source_height - row_taps"),
        Array("row_weights", "int32", ("height", "row_taps")),
        Array("table", dtype, ("channels", 256)),
        Number("channels_last", "int32", 0, 1),
        Number("backwards", "int32", 0, 1),
        Array("lines", "uint8", ("(row_taps + 1) * (channels * width + 32)",), "scratch"),
        Array("finished", "uint8", ("channels * width + 32",), "scratch"),
        Array("first", "int64", ("width + 3",), "scratch"),
        Array("pairs", "int16", ("(width + 3) * column_taps",), "scratch"),
        Array("places", "int64", ("row_taps + 1",), "scratch"),
        Array("row_pairs", "int16", ("2 * row_taps + 2",), "scratch"),
        Array("padded", "uint8", ("row_bytes + 10",), "scratch"),
        Array("out", dtype, ("channels * height * width",), "out"),
    )
    conditions = ("channels == 1 or channels == 3 and column_taps % 24 == 0",)
    return Kernel(name, parameters, (("channels", 1, 3),), conditions)


def _overlay(name: str, channels: tuple[int, int], work: str, *own: Parameter) -> Kernel:
    painted = "painted" if channels[1] == 4 else 3
    parameters = (
        Array("values", "float32", ("map_height", "map_width"), finite=True, about="the map"),
        *_RECTANGLE,
        *(each for each in own if each.name == "background"),
        Array(
            "picture",
            "uint8",
            ("height", "width", "channels"),
            rows=True,
            about="gray, RGB or RGBA; may be `out` itself",
        ),
        *(each for each in own if each.name != "background"),
        Number("first", "size", 0, about="the first row to paint"),
        Number("last", "size", 0, about="the row behind the last one to paint"),
        Array("out", "uint8", ("height", "width", painted), "out", rows=True),
        Array("work", "int64", (work,), "scratch"),
    )
    fits = "channels == painted or channels == 1 and painted == 3"
    rows = ("first <= last", "last <= height")
    conditions = (fits if channels[1] == 4 else "channels != 2", *_RECTANGLE_HOLDS, *rows)
    sizes = (("channels", *channels), *((("painted", 3, 4),) if channels[1] == 4 else ()))
    return Kernel(name, parameters, sizes, conditions)


_TABLE = Array("table", "uint8", (256, 3), about="the colours")
_BACKGROUND = Number("background", "float64", 0.0, 1.0, "the map's value outside of its place")
_BICUBIC = Number("bicubic", "int32", 0, 1, "1 for bicubic enlarging, 0 for bilinear")


TABLE: tuple[Kernel, ...] = (
    # From activation and gradient to maps.
    _method("gradcam"),
    _method("gradcam_plusplus"),
    _method("xgradcam"),
    _method("layercam"),
    _method("hirescam"),
    _method("gradcam_elementwise"),
    Kernel("weighted_sum", (_ACTIVATION, _WEIGHTS, *_MAPS)),
    Kernel(
        "channel_means",
        (
            Array("values", "float32", ("channels", "positions")),
            Array("out", "float32", ("channels",), "out"),
        ),
    ),
    Kernel(
        "summarise",
        (
            Array("raw", "float32", ("maps", "positions")),
            Array("out", "float64", ("maps", 4), "out", about=_SUMMARY),
        ),
    ),
    # From maps to pictures.
    _resize_map("resize_map_bilinear"),
    _resize_map("resize_map_bicubic"),
    Kernel(
        "colorize",
        (
            Array("values", "float32", ("height", "width"), finite=True),
            Array("table", "uint8", (256, 3), about="the colours"),
            Array("out", "uint8", _PIXELS, "out"),
        ),
    ),
    Kernel(
        "blend",
        (
            Array("picture", "uint8", _PIXELS, about="may be `out` itself"),
            Array("heat", "uint8", _PIXELS, about="may be `out` itself"),
            Number("alpha", "float64", 0.0, 1.0, "weight of `heat`"),
            Array("out", "uint8", _PIXELS, "out"),
        ),
    ),
    _overlay(
        "overlay_colors",
        (1, 4),
        "8 * width + map_width + 4500",
        _BACKGROUND,
        _TABLE,
        Number("alpha", "float64", 0.0, 1.0, "weight of the colours"),
        Number("blend", "int32", 0, 3, "0 alpha, 1 additive, 2 alpha times map, 3 colours alone"),
        _BICUBIC,
    ),
    _overlay(
        "overlay_jet",
        (1, 3),
        "7 * width + map_width + 1600",
        _BACKGROUND,
        Number("alpha", "float64", 0.0, 0.5, "weight of the colours"),
        Number("bgr", "int32", 0, 1, "1 where blue is the first channel"),
    ),
    _overlay(
        "overlay_contours",
        (1, 4),
        "11 * width + map_width + 1000",
        _TABLE,
        Number("alpha", "float64", 0.0, 1.0, "weight of the lines"),
        Array("lines", "float32", ("levels",), finite=True, about="values of the map, 0 to 1"),
        Number("thickness", "float64", 0.1, 1000.0, "of the lines, in pixels"),
        Number("smooth", "int32", 0, 1, "1 to cover pixels in part"),
        _BICUBIC,
    ),
    # From pictures to tensors.
    Kernel(
        "resampling_width",
        (
            *_RESIZE,
            Number("count", "size", 1, 1e9),
            _FILTER,
            Array("out", "int64", (1,), "out"),
        ),
        conditions=("first + count <= resized",),
    ),
    Kernel(
        "resampling_taps",
        (
            *_RESIZE,
            _FILTER,
            Array("starts", "int64", ("count",), "out"),
            Array("weights", "int32", ("count", "taps", "channels"), "out"),
        ),
        conditions=("first + count <= resized",),
    ),
    _to_tensor("picture_to_float32", "float32"),
    _to_tensor("picture_to_uint8", "uint8"),
    Kernel(
        "gray_of",
        (
            Array("picture", "uint8", _PIXELS),
            Number("backwards", "int32", 0, 1, "1 for BGR"),
            Array("out", "uint8", ("height", "width"), "out"),
        ),
    ),
    _resize_picture("resize_picture_bilinear"),
    _resize_picture("resize_picture_bicubic"),
)

# Exported by `onnxcam.kernels`, but without a C function, and why.
INTERNAL: dict[str, str] = {}
