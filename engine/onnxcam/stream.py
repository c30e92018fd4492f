"""Frame after frame: a camera, a video."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.attribution import check_method
from onnxcam.diagnosis import Diagnosis
from onnxcam.engine import Engine
from onnxcam.errors import InputError, PictureError
from onnxcam.explaining import diagnosis_of, differentiated
from onnxcam.labels import split_synset
from onnxcam.painting import overlay
from onnxcam.pictures import Pixels
from onnxcam.preprocess import Rectangle
from onnxcam.scores import as_rows, probabilities
from onnxcam.targets import resolve_target
from onnxcam.workspace import Workspace

Map = NDArray[np.float32]


class Stream:
    """Explains frames one after another in memory that it keeps.

    Not for two threads at once: give each thread a Stream of its own; they share the engine.

    Args:
        engine: what explains.
        target: None for the class with the highest score in every frame, an index, or a name.
        method: a key of :data:`onnxcam.methods.METHODS`; None for the engine's.
        layer: which of the file's layers, by number or name; the first by default.
        smoothing: s, 0 to less than 1. A map is ``s * (map before) + (1 - s) * (this frame's)``:
            the weight of a frame falls by s with every later one, to a half after
            ``log(0.5) / log(s)`` frames (6.6 for 0.9). It begins anew where the explained class
            changes. 0: every frame for itself.
        color: "RGB", or "BGR" for frames as OpenCV reads them; the overlay has the same order.
        painting: options of :func:`onnxcam.overlay`: alpha, colormap, blend, threads, ...

    Attributes:
        map: after a frame, float32 [h, w] in [0, 1] at the layer's size, smoothed.
        target: the index of the class that is explained.
        score: the model's output for it, as the model gives it.
        diagnosis: of this frame's own map; its `reason` says why a map says nothing.
        rectangle: the part of the frame that the model saw.

    Raises:
        InputError: `smoothing` or `color` is none of these.
        PreprocessError: neither the file nor the engine says how to make a tensor of a picture.
        TargetError, MethodError, LayerError: as :meth:`onnxcam.Engine.explain`.

    Examples:
        >>> stream = Stream(Engine("net.cam.onnx"), color="BGR")  # doctest: +SKIP
        >>> painted = stream(frame)  # doctest: +SKIP
    """

    map: Map
    target: int
    score: float
    diagnosis: Diagnosis
    rectangle: Rectangle

    def __init__(
        self,
        engine: Engine,
        target: int | str | None = None,
        *,
        method: str | None = None,
        layer: int | str | None = None,
        smoothing: float = 0.0,
        color: str = "RGB",
        **painting: Any,
    ) -> None:
        if not isinstance(smoothing, (int, float)) or not 0 <= smoothing < 1:
            raise InputError(f"smoothing: expected 0 to less than 1, got {smoothing!r}")
        if color not in ("RGB", "BGR"):
            raise InputError(f"color: expected 'RGB' or 'BGR', got {color!r}")
        model = engine.model
        if model.picture_input.shape[0] not in (None, 1):
            raise InputError(
                f"{model.session.title} takes batches of {model.picture_input.shape[0]} pictures; "
                "a stream needs a model for one, or for any number"
            )
        self._engine = engine
        self._model = model
        self._preparation = engine.preparation
        model.named_inputs(None)
        self._wanted = np.array([[resolve_target(target, engine.labels, model.classes)]])
        self._method = check_method(engine.method if method is None else method, model.contract)
        self._layer = model.find_layer(layer)
        self._smoothing = np.float32(smoothing)
        self._bgr = color == "BGR"
        self._painting = painting
        self._workspace = Workspace(model)
        self._tensor = np.empty((1, *self._preparation.shape), self._preparation.dtype)
        self._mean: Map | None = None
        self._scores: Map

    @property
    def probability(self) -> float | None:
        """Of the explained class; None where the contract names no function."""
        chances = probabilities(self._scores, self._model.contract.output)
        return None if chances is None else float(chances[self.target])

    @property
    def label(self) -> str | None:
        """The name of the explained class, without synset id; None without labels."""
        labels = self._engine.labels
        return None if labels is None else split_synset(labels[self.target])[1]

    def __call__(self, frame: Pixels, out: Pixels | None = None) -> Pixels:
        """Explain a frame and paint its map over it.

        Args:
            frame: uint8 [H, W, 3]; its size may change from frame to frame.
            out: uint8 [H, W, 3], contiguous, to write into; may be the frame itself.

        Returns:
            `out`, or the stream's own array, which the next frame overwrites.

        Raises:
            PictureError: not such a frame.
            InputError: a wrong `out`.
            ModelError: the run fails.
        """
        self.explain(frame)
        if out is None:
            out = self._workspace.buffers("overlay", frame.shape, np.uint8)
        rectangle, bgr = self.rectangle, self._bgr
        return overlay(self.map, frame, out=out, rectangle=rectangle, bgr=bgr, **self._painting)

    def explain(self, frame: Pixels) -> Map:
        """Explain a frame without painting; see :meth:`__call__`.

        Returns:
            `map`, which the next frame overwrites.
        """
        model, buffers = self._model, self._workspace.buffers
        _check_frame(frame)
        self.rectangle = self._preparation.fill(
            np.ascontiguousarray(frame), self._tensor[0], bgr=self._bgr, place=buffers
        )
        feeds = {model.contract.picture.name: self._tensor}
        outputs, chosen = model.run_for_classes(
            feeds, self._wanted, self._layer, self._workspace.binding.run
        )
        found = self._workspace.attribute(outputs, self._method, self._layer)
        if found.raw.ndim != 4:
            raise InputError(
                f"the layer has {found.raw.ndim - 2} spatial axes, a picture's map needs 2"
            )
        output = model.contract.output
        scores = as_rows(outputs[output.name], output)[0]
        target = int(chosen[0, 0])
        self.score = float(scores[target])
        self._scores = scores
        chances = differentiated(model, scores)
        self.diagnosis = diagnosis_of(found, 0, 0, chances, target)
        self.map = self._smoothed(found.finished[0, 0], target)
        self.target = target
        return self.map

    def _smoothed(self, latest: Map, target: int) -> Map:
        s, mean = self._smoothing, self._mean
        if not s:
            return latest
        if mean is None or mean.shape != latest.shape or self.target != target:
            self._mean = latest.copy()
            return self._mean
        latest *= 1 - s
        mean *= s
        mean += latest
        return mean


def _check_frame(frame: Any) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        kind = frame.dtype if isinstance(frame, np.ndarray) else type(frame).__name__
        raise PictureError(f"frame: expected a uint8 array [H, W, 3], got {kind}")
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise PictureError(f"frame: expected a uint8 array [H, W, 3], got {list(frame.shape)}")
