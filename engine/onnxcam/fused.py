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
WORTH_THREADS = 500_000


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
    if height * width < WORTH_THREADS:
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


def kernel_of(
    way: Way, colors: Pixels, rectangle: Rectangle, channels: int
) -> tuple[str, dict[str, Any]]:
    """The kernel that paints a picture of so many channels, and its arguments by name.

    Without those that change from call to call: `values`, `picture`, `first`, `last`, `out`.
    """
    known: dict[str, Any] = {**rectangle._asdict(), "alpha": way.alpha}
    if _is_jet(way, colors, channels):
        return "overlay_jet", {**known, "background": way.background, "bgr": int(way.bgr)}
    table = np.ascontiguousarray(colors[:, ::-1]) if way.bgr else colors
    known |= {"table": table, "bicubic": int(way.bicubic)}
    if way.blend == CONTOURS:
        known |= {"lines": way.lines, "thickness": way.line_width, "smooth": int(way.smooth)}
        return "overlay_contours", known
    return "overlay_colors", {**known, "background": way.background, "blend": CODES[way.blend]}


def _kernel(job: Painting, out: Pixels) -> Callable[[int, int], None]:
    """A function that paints the rows first..last."""
    name, known = kernel_of(job.way, job.colors, job.rectangle, job.picture.shape[2])
    kernel = getattr(compiled, name)
    given = {"values": job.values, "picture": job.picture, "out": out, **known}
    return lambda first, last: kernel(first=first, last=last, **given)


def _is_jet(way: Way, colors: Pixels, channels: int) -> bool:
    """Whether the faster kernel paints the same, to within a level."""
    return (
        way.blend == "alpha"
        and way.alpha <= 0.5
        and not way.bicubic
        and channels != 4
        and colors is find_colormap("jet")
    )


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
