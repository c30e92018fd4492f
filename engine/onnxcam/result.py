"""What explaining one picture gives."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.contract import Output
from onnxcam.diagnosis import Diagnosis
from onnxcam.errors import InputError, PictureError
from onnxcam.files import atomic
from onnxcam.labels import split_synset
from onnxcam.painting import OF_SIGNED_MAPS, place
from onnxcam.painting import overlay as paint
from onnxcam.pictures import Pixels
from onnxcam.preprocess import Rectangle
from onnxcam.scores import probabilities

__all__ = ["Diagnosis", "Prediction", "Result", "picture_format"]


@dataclass(frozen=True)
class Prediction:
    """One class: what the model says of it. `probability` is None for raw outputs."""

    index: int
    label: str | None
    synset: str | None
    score: float
    probability: float | None
    chosen: bool


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """A picture, its prediction and its explanation.

    Attributes:
        picture: uint8 [H, W, 3], RGB, upright.
        map: float32 [h, w] in [0, 1], at the layer's size (of a file that emits the finished
            heatmap: at that heatmap's); zero where `diagnosis` has a reason.
        raw: float32 [h, w], the signed map before ReLU and scaling, as computed (of a file that
            emits the finished heatmap: that heatmap).
        rectangle: the part of the picture that the model saw, in its pixels.
        target: the index of the class that is explained.
        scores: float32 [C], the model's scored output for this picture, as the model gives it.
        scoring: what the contract says of the scored output.
        outputs: the model's own outputs for this picture, by name, without the batch axis.
        diagnosis: minimum, maximum and positive share of `raw`, and why the map says nothing.
        labels: the class names, or None.
        method: the CAM method's name; None where a file of finished heatmaps does not say it.
        layer: the name of the explained layer.
    """

    picture: Pixels
    map: NDArray[np.float32]
    raw: NDArray[np.float32]
    rectangle: Rectangle
    target: int
    scores: NDArray[np.float32]
    scoring: Output
    outputs: Mapping[str, NDArray[Any]]
    diagnosis: Diagnosis
    labels: tuple[str, ...] | None = None
    method: str | None = None
    layer: str = ""

    @cached_property
    def heatmap(self) -> NDArray[np.float32]:
        """Float32 [H, W] in [0, 1] at the picture's size; zero outside of `rectangle`.

        Computed on first use.
        """
        return place(self.map, self.rectangle, self._size)

    @cached_property
    def probabilities(self) -> NDArray[np.float64] | None:
        """Float64 [C], softmax or sigmoid applied where the contract says so.

        None where it names none, as for regression. Computed on first use.
        """
        return probabilities(self.scores, self.scoring)

    @property
    def label(self) -> str | None:
        """The name of the explained class, without synset id; None without labels."""
        return self._prediction(self.target).label

    @property
    def synset(self) -> str | None:
        """The WordNet synset id of the explained class where its label has one."""
        return self._prediction(self.target).synset

    @property
    def score(self) -> float:
        """The model's output for the explained class: a logit or a probability, as it gives it."""
        return float(self.scores[self.target])

    @property
    def probability(self) -> float | None:
        """The probability of the explained class, or None for raw outputs."""
        return self._prediction(self.target).probability

    @property
    def title(self) -> str:
        """Class and probability for people, as "tabby (81.2 %)"."""
        name = self.label or f"class {self.target}"
        if self.probability is None:
            return f"{name} ({self.score:.4g})"
        return f"{name} ({100 * self.probability:.1f} %)"

    def top(self, k: int = 10) -> list[Prediction]:
        """The k best classes, best first; the explained one is added when it is not among them.

        Raises:
            InputError: k is not a whole number of at least 1.
        """
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
            raise InputError(f"top: expected a whole number of at least 1, got {k!r}")
        # NaN last, equal scores by index.
        order = np.argsort(-self.scores, kind="stable")[:k].tolist()
        if self.target not in order:
            order.append(self.target)
        return [self._prediction(index) for index in order]

    def overlay(
        self,
        alpha: float | None = None,
        colormap: str | NDArray[Any] | None = None,
        preset: str | None = None,
        out: Pixels | None = None,
        **options: Any,
    ) -> Pixels:
        """The picture with its heatmap painted over, uint8 [H, W, 3].

        Arguments and further options (`blend`, `interpolation`, `levels`, ...) are those of
        :func:`onnxcam.overlay`. The presets `signed` and `diverging` paint the raw map.
        """
        values = self.map
        if preset in OF_SIGNED_MAPS and self.diagnosis.reason != "non_finite":
            values = self.raw
        return paint(
            values,
            self.picture,
            alpha,
            colormap,
            out,
            preset,
            rectangle=self.rectangle,
            **options,
        )

    def figure(
        self,
        alpha: float | None = None,
        colormap: str | NDArray[Any] | None = None,
        preset: str | None = None,
        **options: Any,
    ) -> Image.Image:
        """Picture and overlay side by side, class and probability as title; see `overlay`."""
        from onnxcam.figure import side_by_side  # Pillow's fonts: a tenth of the engine's start

        painted = self.overlay(alpha, colormap, preset, **options)
        return side_by_side(self.picture, painted, self.title)

    def save(
        self,
        path: str | os.PathLike[str],
        alpha: float | None = None,
        colormap: str | NDArray[Any] | None = None,
        preset: str | None = None,
        figure: bool = False,
        **options: Any,
    ) -> None:
        """Write the overlay (or the figure) as a picture, whole or not at all; see `overlay`.

        Raises:
            PictureError: a suffix that is no picture format.
            OSError: the folder does not exist or can't be written.
        """
        picture_format(path)
        if figure:
            _save(self.figure(alpha, colormap, preset, **options), path)
        else:
            _save(Image.fromarray(self.overlay(alpha, colormap, preset, **options)), path)

    def save_map(self, path: str | os.PathLike[str]) -> None:
        """Write `heatmap` (float32 [H, W], at the picture's size) as .npy.

        Raises:
            InputError: another suffix than .npy.
            OSError: the folder does not exist or can't be written.
        """
        if Path(path).suffix.lower() != ".npy":
            raise InputError(f"'{os.fspath(path)}': expected a file name that ends in .npy")
        with atomic(path) as stream:
            np.save(stream, self.heatmap)

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.figure().save(stream, "PNG")
        return stream.getvalue()

    def __repr__(self) -> str:
        height, width = self._size
        reason = f", reason={self.diagnosis.reason!r}" if self.diagnosis.reason else ""
        return f"Result({self.title!r}, target={self.target}, picture {width}x{height}{reason})"

    @property
    def _size(self) -> tuple[int, int]:
        return self.picture.shape[0], self.picture.shape[1]

    def _prediction(self, index: int) -> Prediction:
        synset, label = None, None
        if self.labels is not None:
            synset, label = split_synset(self.labels[index])
        probability = None if self.probabilities is None else float(self.probabilities[index])
        score = float(self.scores[index])
        return Prediction(index, label, synset, score, probability, index == self.target)


def picture_format(path: str | os.PathLike[str]) -> str:
    """The format that Pillow writes for this suffix.

    Raises:
        PictureError: it writes none.
    """
    Image.init()
    suffix = Path(path).suffix.lower()
    name = Image.registered_extensions().get(suffix)
    if name is None or name not in Image.SAVE:
        raise PictureError(
            f"'{os.fspath(path)}': '{suffix}' is no picture format that can be written; "
            "use .png or .jpg"
        )
    return name


def _save(image: Image.Image, path: str | os.PathLike[str]) -> None:
    options = {"quality": 95} if picture_format(path) in ("JPEG", "WEBP") else {}
    with atomic(path) as stream:
        image.save(stream, picture_format(path), **options)
