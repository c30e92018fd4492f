"""Pictures with known answers: handwritten digits among clutter, with their boxes.

A scene is 96x96 grey pixels: one to four different handwritten digits, 18 to 32 pixels high,
on an uneven background, among pen strokes, blobs, faint lines and scrambled pieces of digits.
Because the boxes are known, a heatmap for digit d can be scored: its peak has to lie in d's box
(the pointing game of Zhang et al. 2018, "Top-down neural attention by excitation backprop").

The digits are 8x8 bitmaps of people's handwriting (UCI "Optical Recognition of Handwritten
Digits", see MODELS.md). :func:`unseen_handwriting` reads a few that ship with the package and
that no shipped network was trained on; scikit-learn is needed for training only. Everything is
deterministic: the same seed and digits give the same scenes.

Only numpy is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

SIZE = 96
CLASSES = 10
DIGIT_SIZES = (18, 32)
INK_LEVELS = 16.0  # the bitmaps hold 0..16

# The 1797 bitmaps of sklearn.datasets.load_digits are 14 filled-in forms of about 130 digits
# each, one after the other (the sequence of labels repeats). Index 1287 is where the eleventh
# form begins: everything from there on is held out, so that a held-out digit never shares its
# form with a digit trained on. Thirteen people are named for the fourteen forms, so one may
# have filled in two; which one is not recorded.
HELD_OUT_FROM = 1287

_DATA = Path(__file__).parent / "data" / "unseen_handwriting.npz"
_GAP = 2  # pixels between a digit's box and anything else's

Bitmaps = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Box:
    """One digit in a scene: its class and its pixels, right and bottom exclusive.

    The box is the enlarged 8x8 bitmap's frame, cut to the columns and rows with ink and
    widened by at most :data:`MARGIN` pixels.
    """

    digit: int
    left: int
    top: int
    right: int
    bottom: int

    def contains(self, x: float, y: float) -> bool:
        """Whether the pixel (x, y) lies inside."""
        return self.left <= x < self.right and self.top <= y < self.bottom


@dataclass(frozen=True)
class Scene:
    """A picture, uint8 ``[96, 96]``, and the boxes of its digits."""

    picture: npt.NDArray[np.uint8]
    boxes: tuple[Box, ...]

    @property
    def digits(self) -> tuple[int, ...]:
        """The digits in the scene, in ascending order."""
        return tuple(sorted(box.digit for box in self.boxes))

    @property
    def target(self) -> npt.NDArray[np.float32]:
        """The multi-label target, float32 ``[10]``: 1 for a digit that is there, else 0."""
        target = np.zeros(CLASSES, np.float32)
        target[list(self.digits)] = 1
        return target

    def hit(self, digit: int, heatmap: npt.NDArray[np.floating]) -> bool:
        """The pointing game: does the peak of `heatmap` ``[96, 96]`` lie in a box of `digit`?"""
        y, x = np.unravel_index(int(np.argmax(heatmap)), heatmap.shape)
        return any(box.contains(int(x), int(y)) for box in self.boxes if box.digit == digit)


# The ink's own bounding box of a "1" can be narrower than one cell of an 8-pixel map grid;
# half a cell of tolerance is what such a map can resolve.
MARGIN = 3


def unseen_handwriting() -> tuple[Bitmaps, Labels]:
    """The digits that ship with the package: bitmaps uint8 ``[200, 8, 8]`` of 0..16 and labels
    int64 ``[200]``, twenty of each class, all from :data:`HELD_OUT_FROM` on."""
    with np.load(_DATA, allow_pickle=False) as archive:
        return archive["bitmaps"], archive["labels"].astype(np.int64)


def split(bitmaps: Bitmaps, labels: Labels, held_out: bool) -> tuple[Bitmaps, Labels]:
    """The training or the held-out part of scikit-learn's 1797 digits, by index."""
    part = slice(HELD_OUT_FROM, None) if held_out else slice(0, HELD_OUT_FROM)
    return bitmaps[part].astype(np.uint8), labels[part].astype(np.int64)


def compose(rng: np.random.Generator, bitmaps: Bitmaps, labels: Labels) -> Scene:
    """Compose one scene.

    Args:
        rng: the source of everything random; it is advanced.
        bitmaps: ``[M, 8, 8]``, values 0..16.
        labels: ``[M]``, 0..9; at least four classes must occur.
    """
    canvas = _background(rng)
    taken = np.zeros((SIZE, SIZE), bool)
    boxes: list[Box] = []
    for digit in rng.permutation(np.unique(labels))[: rng.integers(1, 5)]:
        bitmap = bitmaps[rng.choice(np.flatnonzero(labels == digit))]
        ink = enlarge(bitmap, int(rng.integers(DIGIT_SIZES[0], DIGIT_SIZES[1] + 1)))
        place = _free_place(rng, taken, ink.shape, tries=40)
        if place is None and boxes:
            continue  # no room left: one digit fewer
        top, left = place or (0, 0)
        _paint(canvas, ink, top, left, rng.uniform(0.55, 1.0))
        box = _ink_box(int(digit), ink, top, left)
        boxes.append(box)
        taken[top : top + ink.shape[0], left : left + ink.shape[1]] = True
    for kind in rng.choice(len(_CLUTTER), size=rng.integers(3, 9)):
        ink = _CLUTTER[kind](rng, bitmaps)
        place = _free_place(rng, taken, ink.shape, tries=8)
        if place is not None:
            _paint(canvas, ink, *place, rng.uniform(0.4, 1.0))
            top, left = place
            taken[top : top + ink.shape[0], left : left + ink.shape[1]] = True
    canvas += rng.normal(0, rng.uniform(0.01, 0.05), canvas.shape)
    picture = np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)
    return Scene(picture, tuple(boxes))


def enlarge(bitmap: Bitmaps, size: int) -> npt.NDArray[np.float64]:
    """An 8x8 bitmap of 0..16 as crisp ink 0..1, float64 ``[size, size]``.

    Cubic interpolation (Keys 1981, a = -1/2) and a contrast curve, so that the strokes get the
    edges of a pen again.
    """
    weights = _cubic_weights(bitmap.shape[0], size)
    smooth = weights @ (bitmap / INK_LEVELS) @ weights.T
    x = np.clip((smooth - 0.22) / 0.56, 0, 1)
    return x * x * (3 - 2 * x)


def mnist_style(bitmap: Bitmaps) -> npt.NDArray[np.uint8]:
    """One digit as MNIST shows its own: 20x20 in the middle of a black 28x28, uint8."""
    picture = np.zeros((28, 28))
    picture[4:24, 4:24] = enlarge(bitmap, 20)
    return np.rint(picture * 255).astype(np.uint8)


def _cubic_weights(source: int, size: int) -> npt.NDArray[np.float64]:
    """Interpolation matrix ``[size, source]``, pixel centres at half integers, zero outside."""
    at = (np.arange(size) + 0.5) * source / size - 0.5
    x = np.abs(at[:, None] - np.arange(source)[None, :])
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _background(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Uneven lighting and a few faint lines across the whole scene."""
    coarse = rng.uniform(0, 0.25, (5, 5))
    weights = _cubic_weights(5, SIZE)
    weights /= weights.sum(axis=1, keepdims=True)
    canvas = weights @ coarse @ weights.T
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    for _ in range(rng.integers(0, 4)):
        angle = rng.uniform(0, np.pi)
        distance = (x - rng.uniform(0, SIZE)) * np.sin(angle) - (y - rng.uniform(0, SIZE)) * np.cos(
            angle
        )
        canvas += rng.uniform(0.05, 0.2) * np.clip(1.2 - np.abs(distance), 0, 1)
    return canvas


def _stroke(rng: np.random.Generator, _: Bitmaps) -> npt.NDArray[np.float64]:
    """A curved pen stroke (a quadratic Bezier curve), longer or flatter than a written 1."""
    height, width = rng.integers(10, 30), rng.integers(22, 42)
    if rng.random() < 0.3:
        height, width = width + 8, height
    points = rng.uniform(0, 1, (3, 2)) * (height - 5, width - 5) + 2
    points[0, 1], points[2, 1] = 2, width - 3
    t = np.linspace(0, 1, 40)[:, None]
    curve = (1 - t) ** 2 * points[0] + 2 * t * (1 - t) * points[1] + t**2 * points[2]
    y, x = np.mgrid[0:height, 0:width]
    distance = np.sqrt(
        np.min((y[..., None] - curve[:, 0]) ** 2 + (x[..., None] - curve[:, 1]) ** 2, axis=-1)
    )
    ink: npt.NDArray[np.float64] = np.clip(rng.uniform(0.9, 2.2) + 0.5 - distance, 0, 1)
    return ink


def _blob(rng: np.random.Generator, _: Bitmaps) -> npt.NDArray[np.float64]:
    """A soft, tilted ellipse."""
    size = int(rng.integers(8, 22))
    y, x = np.mgrid[0:size, 0:size] - (size - 1) / 2
    angle, ratio = rng.uniform(0, np.pi), rng.uniform(0.4, 1)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius = size / 2 - 1
    distance = np.hypot(along / radius, across / (radius * ratio))
    ink: npt.NDArray[np.float64] = np.clip((1 - distance) * rng.uniform(1.5, 6), 0, 1)
    return ink


def _fragment(rng: np.random.Generator, bitmaps: Bitmaps) -> npt.NDArray[np.float64]:
    """Quarters of different digits, turned over and put together: the same ink, no digit."""
    quarters = []
    for _ in range(4):
        bitmap = bitmaps[rng.integers(len(bitmaps))]
        row, column = rng.integers(0, 5, 2)
        quarters.append(
            np.rot90(bitmap[row : row + 4, column : column + 4], int(rng.integers(1, 4)))
        )
    scrambled = np.block([[quarters[0], quarters[1]], [quarters[2], quarters[3]]])
    ink = enlarge(scrambled, int(rng.integers(16, 30)))
    if rng.random() < 0.5:  # half of it, so that a neat square is no sign of clutter
        ink = ink[: ink.shape[0] // 2] if rng.random() < 0.5 else ink[:, : ink.shape[1] // 2]
    return ink


_CLUTTER = (_stroke, _blob, _fragment)


def _free_place(
    rng: np.random.Generator, taken: npt.NDArray[np.bool_], shape: tuple[int, ...], tries: int
) -> tuple[int, int] | None:
    height, width = shape
    if height >= SIZE or width >= SIZE:
        return None
    for _ in range(tries):
        top, left = int(rng.integers(0, SIZE - height)), int(rng.integers(0, SIZE - width))
        around = taken[
            max(0, top - _GAP) : top + height + _GAP, max(0, left - _GAP) : left + width + _GAP
        ]
        if not around.any():
            return top, left
    return None


def _paint(
    canvas: npt.NDArray[np.float64],
    ink: npt.NDArray[np.float64],
    top: int,
    left: int,
    level: float,
) -> None:
    window = canvas[top : top + ink.shape[0], left : left + ink.shape[1]]
    window += ink * (level - window)


def _ink_box(digit: int, ink: npt.NDArray[np.float64], top: int, left: int) -> Box:
    rows, columns = (np.flatnonzero((ink > 0.5).any(axis=axis)) for axis in (1, 0))
    height, width = ink.shape
    return Box(
        digit,
        left=left + max(0, int(columns[0]) - MARGIN),
        top=top + max(0, int(rows[0]) - MARGIN),
        right=left + min(width, int(columns[-1]) + 1 + MARGIN),
        bottom=top + min(height, int(rows[-1]) + 1 + MARGIN),
    )
