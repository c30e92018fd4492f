"""What painting a heatmap over a picture costs, against NumPy + OpenCV and against copying.

Run: python benchmarks/rendering.py [--sizes 224x224,1280x720] [--rounds 100] [--map 7x7]

One thread everywhere; a random map over a random picture, into an array that is there already.
Each result is compared with OpenCV's before it is timed: at most 2 levels off. Each of ours takes
turns with what it is compared with, and with nothing else: a machine that slows down slows both,
and neither finds the caches full of a third one's pictures. The table is viridis, whose colours may
be interpolated; the steep one turbo, where every pixel's is looked up (4 levels: where the map lies
on the border of two indices, OpenCV may take the other one, and they are up to 3.2 levels apart).
Printed are medians, the quotient of the two medians of a pair, and behind it the quotient of the
two minima, which other programs disturb less.

np.copyto of a picture that fits into the cache runs at the cache's speed; `--streams N` lets all
functions go through N different pictures in turn, as in a video.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from onnxcam import compiled, overlay

SIZES = "224x224,1280x720,1920x1080,3840x2160"
TOLERANCE, STEEP_TOLERANCE = 2, 4
Painter = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def copy(values: np.ndarray, picture: np.ndarray, out: np.ndarray) -> np.ndarray:
    """What no painting can be faster than."""
    np.copyto(out, picture)
    return out


def with_opencv(values: np.ndarray, picture: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The OpenCV tutorials: resize, applyColorMap, addWeighted."""
    large = cv2.resize(values, picture.shape[1::-1])
    jet = cv2.applyColorMap(np.uint8(255 * large), cv2.COLORMAP_JET)
    return cv2.addWeighted(picture, 0.6, jet, 0.4, 0)


def with_opencv_table(
    values: np.ndarray,
    picture: np.ndarray,
    out: np.ndarray,
    flag: int = cv2.INTER_LINEAR,
    colormap: int = cv2.COLORMAP_VIRIDIS,
) -> np.ndarray:
    """The same with another of OpenCV's tables."""
    large = cv2.resize(values, picture.shape[1::-1], interpolation=flag).clip(0, 1)
    colors = cv2.applyColorMap(np.uint8(255 * large), colormap)
    return cv2.addWeighted(picture, 0.6, colors, 0.4, 0)


def like_show_cam_on_image(values: np.ndarray, picture: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The arithmetic of pytorch-grad-cam's show_cam_on_image: float32, divided by the maximum."""
    large = cv2.resize(values, picture.shape[1::-1])
    jet = cv2.applyColorMap(np.uint8(255 * large), cv2.COLORMAP_JET)
    mixed = 0.4 * (np.float32(jet) / 255) + 0.6 * (np.float32(picture) / 255)
    return np.uint8(255 * (mixed / np.max(mixed)))


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default=SIZES, help="WIDTHxHEIGHT, separated by commas")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--map", default="7x7")
    parser.add_argument("--streams", type=int, default=1)
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    print(f"kernels: {compiled.origin()}; map {args.map}; {args.streams} picture(s) in turn")
    print("| picture | painted | us | levels off | NumPy+OpenCV / this | this / np.copyto |")
    print("|---|---|---|---|---|---|")
    shape = tuple(map(int, args.map.split("x")))
    for size in args.sizes.split(","):
        width, height = map(int, size.split("x"))
        for row in _rows(width, height, shape, args.rounds, args.streams):
            print(row, flush=True)
    return 0


def _rows(
    width: int, height: int, shape: tuple[int, ...], rounds: int, streams: int
) -> Iterator[str]:
    random = np.random.default_rng(0)
    values = random.random(shape, np.float32)
    pictures = random.integers(0, 256, (streams, height, width, 3), dtype=np.uint8)
    outs = np.zeros_like(pictures)
    # OpenCV's tables, which are not matplotlib's, and blue first as everywhere here.
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    table, steep = (
        np.ascontiguousarray(cv2.applyColorMap(ramp, each)[:, 0])
        for each in (cv2.COLORMAP_VIRIDIS, cv2.COLORMAP_TURBO)
    )
    ours: dict[str, tuple[Painter, Painter | None]] = {
        "JET": (lambda m, p, o: overlay(m, p, out=o, bgr=True), with_opencv),
        "table": (lambda m, p, o: overlay(m, p, colormap=table, out=o), with_opencv_table),
        "steep table": (
            lambda m, p, o: overlay(m, p, colormap=steep, out=o),
            lambda m, p, o: with_opencv_table(m, p, o, colormap=cv2.COLORMAP_TURBO),
        ),
        "JET, in place": (lambda m, p, o: overlay(m, o, out=o, bgr=True), None),
        "table, bicubic": (
            lambda m, p, o: overlay(m, p, colormap=table, interpolation="bicubic", out=o),
            lambda m, p, o: with_opencv_table(m, p, o, cv2.INTER_CUBIC),
        ),
        "table, map-alpha": (
            lambda m, p, o: overlay(m, p, colormap=table, blend="map-alpha", out=o),
            None,
        ),
        "contours": (lambda m, p, o: overlay(m, p, blend="contours", out=o), None),
    }
    for name, (paint, opencv) in ours.items():
        off = ""
        if opencv is not None:
            expected = opencv(values, pictures[0], outs[0])
            off = str(np.abs(paint(values, pictures[0], outs[0]).astype(int) - expected).max())
            if int(off) > (STEEP_TOLERANCE if name == "steep table" else TOLERANCE):
                raise SystemExit(f"{width}x{height}: {name} is {off} levels off")
        turns = _Turns(values, pictures, outs, rounds)
        quotient = "" if opencv is None else turns.compare(opencv, paint)
        copying = turns.compare(paint, copy)
        yield f"| {width}x{height} | {name} | {turns.median:.0f} | {off} | {quotient} | {copying} |"
    quotient = turns.compare(like_show_cam_on_image, ours["JET"][0])
    yield f"| {width}x{height} | like show_cam_on_image / JET | | | {quotient} | |"


class _Turns:
    def __init__(
        self, values: np.ndarray, pictures: np.ndarray, outs: np.ndarray, rounds: int
    ) -> None:
        self._arguments = [(values, *each) for each in zip(pictures, outs, strict=True)]
        self._rounds = rounds
        self.median = 0.0

    def compare(self, slow: Painter, fast: Painter) -> str:
        """Quotient of the medians, and of the minima; `median` becomes the first one's, in us."""
        times: tuple[list[float], list[float]] = ([], [])
        for turn in range(self._rounds + 3):
            arguments = self._arguments[turn % len(self._arguments)]
            for function, each in zip((slow, fast), times, strict=True):
                start = time.perf_counter()
                function(*arguments)
                each.append(time.perf_counter() - start)
        medians = [float(np.median(each[3:])) for each in times]
        self.median = 1e6 * medians[0]
        return f"{medians[0] / medians[1]:.2f} ({min(times[0]) / min(times[1]):.2f})"


if __name__ == "__main__":
    raise SystemExit(main())
