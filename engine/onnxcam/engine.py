"""The engine: an explaining file, ready to run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from onnxcam.attribution import Attribution, attribute, check_method
from onnxcam.contract import (
    HIGHEST_SCORE,
    OUTPUTS_OF_EMIT,
    SCORE,
    TARGET,
    Contract,
    Preprocessing,
    output_name,
)
from onnxcam.diagnosis import diagnose
from onnxcam.errors import (
    ContractError,
    InputError,
    LayerError,
    MethodError,
    ModelError,
    PreprocessError,
    TargetError,
)
from onnxcam.labels import read_labels
from onnxcam.methods import DEFAULT_METHOD
from onnxcam.painting import check_out
from onnxcam.pictures import PictureLike, Pixels, is_batch, open_picture
from onnxcam.preprocess import Preparation, Rectangle
from onnxcam.presets import parse_preprocess
from onnxcam.result import Result
from onnxcam.scores import as_rows, count_classes, probabilities
from onnxcam.session import Session, TensorInfo
from onnxcam.targets import check_range, check_targets, resolve_target

_EXPORT_HINT = "make one with 'onnxcam export', or pass contract="


class Engine:
    """An explaining ONNX file, ready to run; safe to share between threads.

    Args:
        model: path or content of a file that `onnxcam export` wrote.
        providers: onnxruntime's execution providers, by name or short name ("cuda"); None: CPU.
        threads: threads inside an operator; None for onnxruntime's own choice.
        method: the CAM method of calls that name none, a key of :data:`onnxcam.methods.METHODS`.
        preprocess: instead of the file's own: what :func:`onnxcam.presets.parse_preprocess` takes.
        labels: instead of the file's own: names in class order, or the path of a labels file.
        contract: for a file without one: what it would say.

    Raises:
        ModelError: the file is missing, not ONNX, truncated, or can't be run.
        ContractError: the file has no contract, or one that contradicts its graph.
        PreprocessError: the preprocessing contradicts the model's input.
        InputError: the number of labels is not the number of classes.
        MethodError: the method is unknown or needs more than the file puts out.

    Examples:
        >>> engine = Engine("resnet50.cam.onnx")  # doctest: +SKIP
        >>> engine.explain("dog.jpg").save("dog.cam.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        providers: Sequence[Any] | None = None,
        threads: int | None = None,
        method: str = DEFAULT_METHOD,
        preprocess: Any = None,
        labels: str | os.PathLike[str] | Sequence[str] | None = None,
        contract: Contract | None = None,
    ) -> None:
        self._session = Session(model, providers, threads)
        self.contract = contract or self._own_contract()
        self._check_graph()
        self.method = check_method(method, self.contract.emit)
        self._classes = count_classes(self._session.outputs[self.contract.output.name])
        self.preprocess = self._find_preprocess(preprocess)
        self.labels = self._find_labels(labels)

    @property
    def providers(self) -> list[str]:
        """The execution providers in use."""
        return self._session.providers

    @overload
    def explain(  # type: ignore[overload-overlap]  # bytes are a Sequence to mypy
        self,
        picture: PictureLike,
        target: int | str | None = None,
        method: str | None = None,
        *,
        layer: int | str | None = None,
        inputs: Mapping[str, NDArray[Any]] | None = None,
    ) -> Result: ...

    @overload
    def explain(
        self,
        picture: PictureLike,
        target: Sequence[int | str | None],
        method: str | None = None,
        *,
        layer: int | str | None = None,
        inputs: Mapping[str, NDArray[Any]] | None = None,
    ) -> list[Result]: ...

    @overload
    def explain(
        self,
        picture: Sequence[PictureLike],
        target: int | str | Sequence[int | str | None] | None = None,
        method: str | None = None,
        *,
        layer: int | str | None = None,
        inputs: Mapping[str, NDArray[Any]] | None = None,
    ) -> list[Result]: ...

    def explain(
        self,
        picture: Any,
        target: Any = None,
        method: str | None = None,
        *,
        layer: int | str | None = None,
        inputs: Mapping[str, NDArray[Any]] | None = None,
    ) -> Any:
        """Predict and explain pictures.

        Args:
            picture: what :func:`onnxcam.pictures.open_picture` reads, or several: a list, or a
                uint8 array [N, H, W, C]. Where the model's batch size is open they run as one
                batch, so a long list wants as much memory.
            target: None or -1 for the class with the highest score, an index, or a class name;
                for several pictures also a list, one target each; for one picture also a list
                of at most K targets, where the file takes K of them (`--targets K`).
            method: a key of :data:`onnxcam.methods.METHODS`; None for the engine's.
            layer: which of the file's layers, by number or name; the first by default.
            inputs: the model's further inputs by name. An array as long as there are pictures
                is shared out among them, one item each.

        Returns:
            A Result, or a list of them for several pictures, or for several targets of one.

        Raises:
            PreprocessError: neither the file nor the engine says how to make a tensor of a picture.
            PictureError: a picture can't be read.
            TargetError: an unknown class, or another number of targets than pictures.
            LayerError: the file has no such layer.
            InputError: a further input is missing, unknown, or of another shape or dtype.
            MethodError: an unknown method.
            ModelError: the run fails.
        """
        if self.preprocess is None:
            raise PreprocessError(
                "the file does not say how to make its input of a picture: give --preprocess, in "
                "Python preprocess= (imagenet, caffe, tf, unit, or a JSON file), or hand a tensor "
                "to maps()"
            )
        name = check_method(self.method if method is None else method, self.contract.emit)
        several = is_batch(picture)
        sources = list(picture) if several else [picture]
        targets, is_list = self._targets_of_pictures(target, len(sources), several)
        index = self.find_layer(layer)
        further = self._named_inputs(inputs)
        results: list[list[Result]] = []
        for part in self._batches(len(sources)):
            pictures = [open_picture(source) for source in sources[part]]
            feeds = {k: _share(value, part, len(sources)) for k, value in further.items()}
            results += self._explain_batch(
                pictures, targets[part], name, index, feeds, self.preprocess
            )
        if several:
            return [each[0] for each in results]
        return results[0] if is_list else results[0][0]

    def maps(
        self,
        tensor: NDArray[Any],
        targets: Any = None,
        method: str | None = None,
        signed: bool = False,
        out: NDArray[np.float32] | None = None,
        *,
        layer: int | str | None = None,
        inputs: Mapping[str, NDArray[Any]] | None = None,
    ) -> NDArray[np.float32]:
        """The maps of a finished input tensor.

        Args:
            tensor: the model's input, of its own dtype and shape, finite.
            targets: None for the highest score; one class index for all images; or integers [N]
                ([N, K] for a file that takes K targets an image), -1 for the highest score.
            method: a key of :data:`onnxcam.methods.METHODS`; None for the engine's.
            signed: give the raw maps, before ReLU and scaling (NaN where the model gives NaN).
            out: float32, contiguous, of the result's shape, to write into.
            layer: which of the file's layers, by number or name; the first by default.
            inputs: the model's further inputs, by name.

        Returns:
            Float32 [N, h, w] in [0, 1] ([N, K, h, w] for K targets): ReLU, divided by its
            maximum, zero where that says nothing. [N, l] or [N, d, h, w] for 1-D and 3-D models.

        Raises:
            InputError: tensor, `out` or a further input of another shape or dtype, non-finite
                values, or a further input missing.
            LayerError: the file has no such layer.
            TargetError: targets of another shape, or out of range.
            MethodError: an unknown method, or `signed` of a file that emits the finished map.
            ModelError: the run fails.
        """
        emit = self.contract.emit
        name = check_method(self.method if method is None else method, emit)
        if signed and emit == "heatmap":
            raise MethodError(
                "signed: the file emits the finished map; export with emit='gradient'"
            )
        self._picture_input.check(tensor)
        index = self.find_layer(layer)
        feeds = self._checked_inputs(self._named_inputs(inputs))
        feeds[self.contract.picture.name] = np.ascontiguousarray(tensor)
        per_image = self._targets_per_image
        wanted = check_targets(targets, len(tensor), per_image, self._classes)
        outputs = self._run(feeds, wanted, self._cam_outputs(index))
        found = self._attribute(outputs, name, index)
        maps = found.raw if signed else found.finished
        if per_image is None:
            maps = maps[:, 0]
        if out is None:
            return maps
        check_out(out, maps.shape, np.float32)
        out[...] = maps
        return out

    @property
    def _picture_input(self) -> TensorInfo:
        return self._session.inputs[self.contract.picture.name]

    @property
    def _targets_per_image(self) -> int | None:
        """None for a target input [N] (or none at all); K for [N, K], 0 where K is open."""
        info = self._session.inputs.get(TARGET)
        if info is None or len(info.shape) < 2:
            return None
        return info.shape[1] or 0

    def _own_contract(self) -> Contract:
        text = self._session.metadata
        if text is None:
            raise ContractError(
                f"{self._session.title} is not an explaining file (it has no contract); "
                + _EXPORT_HINT
            )
        return Contract.loads(text)

    def _check_graph(self) -> None:
        contract, session = self.contract, self._session
        if contract.picture.name not in session.inputs:
            raise ContractError(_absent("input", contract.picture.name, session.inputs))
        explaining = [n for i in range(len(contract.layers)) for n in self._cam_outputs(i)]
        for name in (contract.output.name, *explaining):
            if name not in session.outputs:
                raise ContractError(_absent("output", name, session.outputs))
        info = self._picture_input
        if info.dtype is None or info.dtype.name != contract.picture.dtype:
            raise ContractError(
                f"contract: input '{info.name}' is {contract.picture.dtype}, the graph says "
                f"{info.dtype}"
            )

    def _cam_outputs(self, layer: int) -> list[str]:
        return [output_name(base, layer) for base in OUTPUTS_OF_EMIT[self.contract.emit]]

    def find_layer(self, layer: int | str | None) -> int:
        """The number of one of the file's layers, given by number, name, or None for the first.

        A name that is a number is taken for one where no layer is called so.

        Raises:
            LayerError: the file has no such layer.
        """
        layers = self.contract.layers
        if layer is None:
            return 0
        if isinstance(layer, str):
            for index, each in enumerate(layers):
                if layer in (each.name, each.tensor):
                    return index
            if layer.isascii() and layer.isdigit() and int(layer) < len(layers):
                return int(layer)
        elif isinstance(layer, int) and not isinstance(layer, bool) and 0 <= layer < len(layers):
            return layer
        known = ", ".join(f"{i} '{each.title}'" for i, each in enumerate(layers))
        raise LayerError(f"layer {layer!r}: {self._session.title} explains {known}")

    def _named_inputs(self, inputs: Mapping[str, NDArray[Any]] | None) -> dict[str, NDArray[Any]]:
        """The model's inputs beside picture and target, all there and none more."""
        given = {name: np.asarray(value) for name, value in (inputs or {}).items()}
        own = (self.contract.picture.name, TARGET)
        needed = [name for name in self._session.inputs if name not in own]
        missing = [name for name in needed if name not in given]
        if missing:
            raise InputError(
                f"{self._session.title} takes further inputs: give {', '.join(missing)} in inputs="
            )
        unknown = [name for name in given if name not in needed]
        if unknown:
            known = ", ".join(needed) or "none"
            raise InputError(f"inputs: no further input '{unknown[0]}'; the model's are {known}")
        return given

    def _checked_inputs(self, further: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        for name, value in further.items():
            self._session.inputs[name].check(value)
        return further

    def _find_preprocess(self, given: Any) -> Preprocessing | None:
        info, layout = self._picture_input, self.contract.picture.layout
        found = self.contract.picture.preprocess if given is None else given
        if len(info.shape) != 4:
            if found is not None and found != "none":
                raise PreprocessError(
                    f"preprocess: input '{info.name}' has {len(info.shape)} axes, a picture needs 4"
                )
            return None
        channels, h, w = info.shape[1:] if layout == "NCHW" else _channels_first(info.shape[1:])
        size = (h, w) if h is not None and w is not None else None
        preprocess = parse_preprocess(found, size, channels=channels)
        if preprocess is not None:
            for wanted, side in zip((h, w), preprocess.size, strict=True):
                if wanted is not None and wanted != side:
                    raise PreprocessError(
                        f"preprocess: size {preprocess.size[0]}x{preprocess.size[1]} contradicts "
                        f"the model's input, {h or 'any'}x{w or 'any'}"
                    )
        return preprocess

    def _find_labels(self, given: Any) -> tuple[str, ...] | None:
        if given is None:
            labels = self.contract.labels
        elif isinstance(given, (str, os.PathLike)):
            labels = read_labels(given)
        else:
            labels = tuple(str(label) for label in given)
        if labels is not None:
            _check_label_count(labels, self._classes)
        return labels

    def _targets_of_pictures(
        self, target: Any, count: int, several: bool
    ) -> tuple[list[list[int]], bool]:
        """The targets of each picture, and whether a list was given."""
        is_list = isinstance(target, (list, tuple, np.ndarray)) and np.ndim(target) > 0
        targets = list(target) if is_list else [target] * count
        found = [resolve_target(each, self.labels, self._classes) for each in targets]
        if is_list and not several:
            self._check_target_count(len(found))
            return [found], True
        if len(targets) != count:
            raise TargetError(f"target: {len(targets)} targets for {count} pictures")
        return [[each] for each in found], is_list

    def _check_target_count(self, count: int) -> None:
        per_image = self._targets_per_image
        if per_image is None:
            raise TargetError(
                "target: a list of targets needs a list of pictures, one each, or a file that "
                "takes several targets an image (export it with --targets K)"
            )
        if count < 1 or (per_image and count > per_image):
            raise TargetError(
                f"target: expected 1 to {per_image or 'K'} targets of a picture, got {count}"
            )

    def _batches(self, count: int) -> Iterator[slice]:
        size = self._picture_input.shape[0] or max(count, 1)
        for start in range(0, count, size):
            yield slice(start, start + size)

    def _explain_batch(
        self,
        pictures: list[Pixels],
        targets: list[list[int]],
        method: str,
        layer: int,
        further: dict[str, NDArray[Any]],
        preprocess: Preprocessing,
    ) -> list[list[Result]]:
        """Results by picture and target."""
        # A fixed batch size is filled up with copies of the last picture.
        missing = (self._picture_input.shape[0] or len(pictures)) - len(pictures)
        wanted = np.array(targets + targets[-1:] * missing, np.int64)
        info = self.contract.picture
        preparation = Preparation(preprocess, info.layout, info.dtype)
        tensor = np.empty((len(pictures) + missing, *preparation.shape), preparation.dtype)
        rectangles = [preparation.fill(*each) for each in zip(pictures, tensor, strict=False)]
        tensor[len(pictures) :] = tensor[len(pictures) - 1]
        if missing:
            further = {
                k: np.concatenate([v, np.repeat(v[-1:], missing, axis=0)])
                if v.ndim and len(v) == len(pictures)
                else v
                for k, v in further.items()
            }
        feeds = {**self._checked_inputs(further), info.name: tensor}
        outputs, chosen = self._run_for_classes(feeds, wanted, layer)
        attribution = self._attribute(outputs, method, layer)
        return [
            [
                self._result(i, k, picture, seen, int(target), outputs, attribution, method, layer)
                for k, target in enumerate(chosen[i])
            ]
            for i, (picture, seen) in enumerate(zip(pictures, rectangles, strict=True))
        ]

    def _run_for_classes(
        self, feeds: dict[str, NDArray[Any]], targets: NDArray[np.int64], layer: int
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Run for targets [N, k], and say which class every map is for, [N, k]."""
        names = [*self._own_outputs(), self.contract.output.name, *self._cam_outputs(layer)]
        names = list(dict.fromkeys(names))
        outputs = self._run(feeds, self._as_input(targets), names)
        scores = as_rows(outputs[self.contract.output.name], self.contract.output)
        best = scores.argmax(axis=1)[:, None]
        chosen = np.where(targets == HIGHEST_SCORE, best, targets)
        # Where several classes share the highest output (probabilities saturated to 1), the
        # graph may have decided between their logits otherwise: ask for the class by index.
        ties = (scores == scores.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True) > 1
        if TARGET in self._session.inputs and (ties & (targets == HIGHEST_SCORE)).any():
            outputs = self._run(feeds, self._as_input(chosen), names)
        return outputs, chosen

    def _own_outputs(self) -> list[str]:
        """What the plain model puts out."""
        layers = range(len(self.contract.layers))
        added = {name for index in layers for name in self._cam_outputs(index)} | {SCORE}
        return [name for name in self._session.outputs if name not in added]

    def _as_input(self, targets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Targets [N, k] as the model takes them: [N], or [N, K], the last one repeated."""
        per_image = self._targets_per_image
        if per_image is None:
            return np.ascontiguousarray(targets[:, 0])
        missing = (per_image or targets.shape[1]) - targets.shape[1]
        return np.concatenate([targets, np.repeat(targets[:, -1:], missing, axis=1)], axis=1)

    def _run(
        self, feeds: dict[str, NDArray[Any]], targets: NDArray[np.int64], names: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        if TARGET in self._session.inputs:
            try:
                return self._session.run({**feeds, TARGET: targets}, names)
            except ModelError:
                self._blame_target(feeds, targets)
                raise
        if (targets != HIGHEST_SCORE).any():
            raise TargetError(
                f"target: {self._session.title} has no input '{TARGET}' and always explains the "
                "highest score"
            )
        return self._session.run(feeds, names)

    def _blame_target(self, feeds: dict[str, NDArray[Any]], targets: NDArray[np.int64]) -> None:
        """Raise TargetError if a target is out of range in a file that does not say its classes."""
        if self._classes is not None or (targets == HIGHEST_SCORE).all():
            return
        output = self.contract.output
        highest = np.full_like(targets, HIGHEST_SCORE)
        found = self._session.run({**feeds, TARGET: highest}, [output.name])
        scores = as_rows(found[output.name], output)
        check_range(int(targets.max()), scores.shape[1])

    def _attribute(self, outputs: dict[str, NDArray[Any]], method: str, layer: int) -> Attribution:
        several = self._targets_per_image is not None
        return attribute(outputs, self.contract.emit, method, layer, several=several)

    def _result(
        self,
        i: int,
        k: int,
        picture: Pixels,
        seen: Rectangle,
        target: int,
        outputs: dict[str, NDArray[Any]],
        attribution: Attribution,
        method: str,
        layer: int,
    ) -> Result:
        """The result of picture i for its target k."""
        contract = self.contract
        raw = attribution.raw[i, k]
        if raw.ndim != 2:
            raise InputError(
                f"the layer has {raw.ndim} spatial axes, a picture's map needs 2; use maps()"
            )
        scores = as_rows(outputs[contract.output.name], contract.output)[i]
        if self.labels is not None:
            _check_label_count(self.labels, len(scores))
        chances = probabilities(scores, contract.output)
        differentiated = contract.score == "probability" and chances is not None
        diagnosis = diagnose(
            attribution.summary[i, k],
            raw.size,
            None if attribution.slopes is None else attribution.slopes[i, k],
            float(chances[target]) if differentiated and chances is not None else None,
        )
        batch = len(outputs[contract.output.name])
        own = {name: _of_one(outputs[name], i, batch) for name in self._own_outputs()}
        return Result(
            picture=picture,
            map=attribution.finished[i, k],
            raw=raw,
            rectangle=seen,
            target=target,
            scores=scores,
            probabilities=chances,
            outputs=own,
            diagnosis=diagnosis,
            labels=self.labels,
            method=None if contract.emit == "heatmap" else method,
            layer=contract.layers[layer].title,
        )


def _channels_first(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return shape[2], shape[0], shape[1]


def _share(value: NDArray[Any], part: slice, count: int) -> NDArray[Any]:
    """The part of an input that goes with some of the pictures; all of it where it is for all."""
    return value[part] if value.ndim and len(value) == count else value


def _of_one(value: Any, i: int, batch: int) -> Any:
    """The part of an output that belongs to picture i; all of it where it has no batch axis."""
    has_batch = isinstance(value, np.ndarray) and value.ndim > 0 and len(value) == batch
    return value[i] if has_batch else value


def _absent(kind: str, name: str, present: Any) -> str:
    return f"contract: the graph has no {kind} '{name}'; it has {', '.join(present)}"


def _check_label_count(labels: Sequence[str], classes: int | None) -> None:
    if classes is not None and len(labels) != classes:
        raise InputError(
            f"labels: {len(labels)} names for {classes} classes; take the labels that the model "
            "was trained with (some count a background class)"
        )
