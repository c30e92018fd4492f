"""Calling the kernels that paint a picture in one pass: work space, bands of rows, shared memory.

Arguments are valid here; see :mod:`onnxcam.painting` for what checks them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxcam import compiled
from onnxcam.colormaps import find_colormap
from onnxcam.pictures import Pixels
from onnxcam.preprocess import Rectangle

# name of a blend -> the kernel's number for it; contours have a kernel of their own
CODES = {"alpha": 0, "additive": 1, "map-alpha": 2, "heat": 3}
CONTOURS = "contours"

# Starting threads takes about 0.1 ms; half a megapixel is painted in that.
_WORTH_THREADS = 500_000


class Way(NamedTuple):
    """How a map is painted; see :func:`onnxcam.overlay`.

    `background` is the map's value outside of its rectangle; `lines` are the levels of contours,
    float32.
    """

    alpha: float
    blend: str
    bicubic: bool = False
    background: float = 0.0
    bgr: bool = False
    lines: NDArray[np.float32] | None = None
    line_width: float = 1.0
    smooth: bool = True


class Painting(NamedTuple):
    """What is painted, and how.

    `values` is float32 [h, w], of which 0..1 is shown; it lies in `rectangle`. `picture` is uint8
    [H, W, C], C of 1, 3 or 4, pixels of a row adjacent.
    """

    values: NDArray[np.float32]
    rectangle: Rectangle
    picture: Pixels
    colors: Pixels
    way: Way


def paint(job: Painting, out: Pixels, threads: int = 1) -> None:
    """Paint into `out`, uint8 [H, W, 3] or [H, W, 4], with up to so many threads.

    `out` may be the picture; if it shares memory with it in another way, that is found out and
    the picture copied first.
    """
    job = _apart(job, out)
    band = _kernel(job, out)
    height, width = out.shape[:2]
    if height * width < _WORTH_THREADS:
        threads = 1
    threads = min(threads, height)
    if threads <= 1:
        band(0, height)
        return
    from concurrent.futures import ThreadPoolExecutor  # and with it logging: 5 ms

    edges = [height * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(band, edges[i], edges[i + 1]) for i in range(threads)]:
            done.result()


def _kernel(job: Painting, out: Pixels) -> Callable[[int, int], None]:
    """A function that paints the rows first..last."""
    picture, way = job.picture, job.way
    where = (job.values, *job.rectangle)
    if way.blend == CONTOURS:
        colors = _colors(job)

        def contours(first: int, last: int) -> None:
            compiled.overlay_contours(
                *where, picture, colors, way.alpha, way.lines, way.line_width,
                int(way.smooth), int(way.bicubic), first, last, out,
            )  # fmt: skip

        return contours
    if _is_jet(job):

        def jet(first: int, last: int) -> None:
            compiled.overlay_jet(
                *where, way.background, picture, way.alpha, int(way.bgr), first, last, out
            )

        return jet
    colors, code = _colors(job), CODES[way.blend]

    def any_colors(first: int, last: int) -> None:
        compiled.overlay_colors(
            *where, way.background, picture, colors, way.alpha, code, int(way.bicubic), first,
            last, out,
        )  # fmt: skip

    return any_colors


def _is_jet(job: Painting) -> bool:
    """Whether the faster kernel paints the same, to within a level."""
    return (
        job.way.blend == "alpha"
        and job.way.alpha <= 0.5
        and not job.way.bicubic
        and job.picture.shape[2] != 4
        and job.colors is find_colormap("jet")
    )


def _colors(job: Painting) -> Pixels:
    return np.ascontiguousarray(job.colors[:, ::-1]) if job.way.bgr else job.colors


def _apart(job: Painting, out: Pixels) -> Painting:
    """The job, with copies of what shares memory with `out` and is not `out` itself."""
    if _may_share(job.picture, out) and not _same(job.picture, out):
        job = job._replace(picture=job.picture.copy())
    if _may_share(job.values, out):
        job = job._replace(values=job.values.copy())
    return job


def _may_share(array: NDArray[Any], out: Pixels) -> bool:
    if array.base is None and out.base is None:  # each in memory of its own
        return array is out
    return np.may_share_memory(array, out)


def _same(a: Pixels, b: Pixels) -> bool:
    if a is b:
        return True
    return a.shape == b.shape and a.strides == b.strides and a.ctypes.data == b.ctypes.data
