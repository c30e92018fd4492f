"""Every kernel of the library: a table.

From a row come the C function and its documentation, the checks of its arguments, and the Python
function that calls it. A row's parameters are the kernel's own, in its order and with its names.
In C an array is a pointer (for `rows` followed by its row stride in bytes), and the sizes that
occur in its shape are arguments of their own, behind all others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf

SIZE_IN_BYTES = {"uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "int64": 8}
SIZE_IN_BYTES |= {"uint32": 4, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class Array:
    """An array argument.

    `shape` holds numbers, names of sizes, and expressions of names that occur elsewhere. `role` is
    "in", "out", "inout" or "scratch" (the kernel's work space: its content means nothing). With
    `finite` NaN and infinity are refused. With `rows` the rows (the first axis) need not be
    adjacent. `about` is a few words for the C header.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    role: str = "in"
    finite: bool = False
    rows: bool = False
    about: str = ""


@dataclass(frozen=True)
class Number:
    """A number argument: `low` <= value <= `high`, never NaN."""

    name: str
    dtype: str
    low: float = -inf
    high: float = inf
    about: str = ""


Parameter = Array | Number


@dataclass(frozen=True)
class Kernel:
    """A row: a function that `onnxcam.kernels` exports, and its parameters.

    `sizes` limits sizes, name to (lowest, highest); any other is at least 1. `conditions` are
    comparisons of parameters and sizes that have to hold, written so that C and Python agree.
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
    def size_names(self) -> tuple[str, ...]:
        """The sizes in the shapes, in the order in which they occur."""
        names = (name for array in self.arrays for side in array.shape for name in names_in(side))
        return tuple(dict.fromkeys(names))


def names_in(side: int | str) -> list[str]:
    """The names of sizes in one side of a shape, from left to right."""
    return re.findall(r"[a-z]\w*", str(side))


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
    # From pictures to tensors.
    _resize_picture("resize_picture_bilinear"),
    _resize_picture("resize_picture_bicubic"),
)

# Exported by `onnxcam.kernels`, but without a C function, and why.
INTERNAL: dict[str, str] = {}
