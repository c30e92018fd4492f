"""The contract: what an exported file promises, in its metadata.

The exporter writes it, the engine reads it, and this module is the only place that knows its
form. An explaining model keeps its original inputs and outputs and has, in addition,

- the input :data:`TARGET`, int64 ``[N]`` (``[N, K]`` for K maps an image): the class index of
  every image, ``-1`` for the highest score (absent where the export left it out: then always
  the highest score);
- the outputs that :attr:`Contract.emit` names, see :data:`OUTPUTS_OF_EMIT`; a further layer
  takes the suffix ``_1``, ``_2``, ... (:func:`output_name`);
- where the score is made of an output rather than one of its classes, the output :data:`SCORE`,
  float32 ``[N, C]``, of which :data:`TARGET` chooses, and the input :data:`MASK` or
  :data:`VECTOR` that it needs.

The document is JSON under the metadata key :data:`METADATA_KEY`; README.md shows one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxcam.errors import ContractError, PreprocessError

METADATA_KEY = "onnxcam"
VERSION = 1

TARGET = "cam_target"
ACTIVATION = "cam_activation"
GRADIENT = "cam_gradient"
WEIGHTS = "cam_weights"
HEATMAP = "cam_heatmap"
SCORE = "cam_score"
MASK = "cam_mask"
VECTOR = "cam_vector"
HIGHEST_SCORE = -1

OUTPUTS_OF_EMIT: dict[str, tuple[str, ...]] = {
    "gradient": (ACTIVATION, GRADIENT),
    "weights": (ACTIVATION, WEIGHTS),
    "heatmap": (HEATMAP,),
}
SCORES = ("logit", "probability")
OUTPUT_KINDS = ("logits", "softmax", "sigmoid", "raw")
ACTIVATIONS = ("softmax", "sigmoid")
HEATMAP_SIZES = ("map", "input")
LAYOUTS = ("NCHW", "NHWC")
COLOR_ORDERS = ("RGB", "BGR", "GRAY")
RESIZE_MODES = ("stretch", "crop")
FILTERS = ("nearest", "bilinear", "bicubic")


def output_name(base: str, layer_index: int) -> str:
    """Name of an output for the layer at `layer_index`: ``cam_gradient``, ``cam_gradient_1``."""
    return base if layer_index == 0 else f"{base}_{layer_index}"


@dataclass(frozen=True)
class Resize:
    """How a picture of any size comes to the model's input size.

    `stretch` resizes to the input size regardless of the aspect ratio. `crop` resizes the
    shorter side to `shorter_side` pixels and takes the centre.

    Examples:
        >>> Resize(mode="crop", shorter_side=256).to_json()["shorter_side"]
        256
    """

    mode: str = "stretch"
    shorter_side: int | None = None
    filter: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        _one_of("resize.mode", self.mode, RESIZE_MODES)
        _one_of("resize.filter", self.filter, FILTERS)
        if not isinstance(self.antialias, bool):
            raise PreprocessError(
                f"resize.antialias: expected true or false, got {self.antialias!r}"
            )
        if self.mode == "crop":
            _positive_int("resize.shorter_side", self.shorter_side)
        elif self.shorter_side is not None:
            raise PreprocessError("resize.shorter_side is only for resize.mode 'crop'")

    @classmethod
    def from_json(cls, document: Any) -> Resize:
        _known_keys("resize", document, ("mode", "shorter_side", "filter", "antialias"))
        return cls(**document)

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"mode": self.mode}
        if self.shorter_side is not None:
            document["shorter_side"] = self.shorter_side
        return document | {"filter": self.filter, "antialias": self.antialias}


@dataclass(frozen=True)
class Preprocessing:
    """From a uint8 picture to the input tensor: ``(pixel * scale - mean) / std``.

    `size` is (height, width) in pixels; `mean` and `std` are per channel, in the order of the
    tensor's channels (BGR first for `color="BGR"`), one value or as many as channels.

    Examples:
        >>> p = Preprocessing(size=(224, 224), scale=1 / 255, mean=(0.5,), std=(0.5,))
        >>> Preprocessing.from_json(p.to_json()) == p
        True
    """

    size: tuple[int, int]
    color: str = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: Resize = field(default_factory=Resize)

    def __post_init__(self) -> None:
        if len(self.size) != 2:
            raise PreprocessError(f"size: expected [height, width], got {list(self.size)}")
        for side in self.size:
            _positive_int("size", side)
        _one_of("color", self.color, COLOR_ORDERS)
        allowed = (1, self.channels)
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in allowed:
                raise PreprocessError(
                    f"{key}: expected 1 or {self.channels} numbers for color {self.color!r}, "
                    f"got {len(values)}"
                )
        if any(value <= 0 for value in self.std) or self.scale <= 0:
            raise PreprocessError("std and scale must be greater than zero")
        if self.resize.shorter_side is not None and self.resize.shorter_side < max(self.size):
            raise PreprocessError(
                f"resize.shorter_side {self.resize.shorter_side} is smaller than the crop "
                f"{self.size[0]}x{self.size[1]}"
            )

    @property
    def channels(self) -> int:
        """Channels of the input tensor: 1 for GRAY, else 3."""
        return 1 if self.color == "GRAY" else 3

    @classmethod
    def from_json(cls, document: Any) -> Preprocessing:
        """Parse the form of :meth:`to_json`, strictly.

        Raises:
            PreprocessError: an unknown key, a wrong type, or a value out of range.
        """
        keys = ("size", "color", "scale", "mean", "std", "resize")
        _known_keys("preprocess", document, keys)
        if "size" not in document:
            raise PreprocessError("preprocess: 'size' ([height, width]) is missing")
        size = document["size"]
        if not isinstance(size, Sequence) or isinstance(size, str):
            raise PreprocessError(f"size: expected [height, width], got {size!r}")
        return cls(
            size=tuple(size),  # __post_init__ checks the length
            color=document.get("color", "RGB"),
            scale=_number("scale", document.get("scale", 1.0)),
            mean=_numbers("mean", document.get("mean", (0.0,))),
            std=_numbers("std", document.get("std", (1.0,))),
            resize=Resize.from_json(document.get("resize", {})),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "size": list(self.size),
            "color": self.color,
            "scale": self.scale,
            "mean": list(self.mean),
            "std": list(self.std),
            "resize": self.resize.to_json(),
        }


@dataclass(frozen=True)
class Layer:
    """The layer that is explained.

    `tensor` is the tensor's name in the source file, `name` the framework's name or None.
    """

    tensor: str
    name: str | None = None

    @property
    def title(self) -> str:
        """The name to show to people."""
        return self.name or self.tensor


@dataclass(frozen=True)
class Output:
    """The output that is scored.

    `kind` says what it holds: `logits`, `softmax` or `sigmoid` probabilities, or `raw` values
    (regression). `activation` says which function makes probabilities of logits, or None.
    Of a quantised output (integers), `(value - zero_point) * scale` is what it stands for.
    """

    name: str
    kind: str
    activation: str | None = None
    scale: float = 1.0
    zero_point: int = 0

    def __post_init__(self) -> None:
        is_number = isinstance(self.scale, (int, float)) and not isinstance(self.scale, bool)
        if not is_number or not math.isfinite(self.scale) or self.scale <= 0:
            raise ContractError(f"output.scale: expected more than zero, got {self.scale!r}")
        if not isinstance(self.zero_point, int) or isinstance(self.zero_point, bool):
            raise ContractError(
                f"output.zero_point: expected a whole number, got {self.zero_point!r}"
            )
        _one_of("output.kind", self.kind, OUTPUT_KINDS, ContractError)
        if self.activation is not None:
            _one_of("output.activation", self.activation, ACTIVATIONS, ContractError)


@dataclass(frozen=True)
class Picture:
    """The input that takes the picture: name, dtype (numpy's name), layout, preprocessing."""

    name: str
    dtype: str
    layout: str
    preprocess: Preprocessing | None = None

    def __post_init__(self) -> None:
        _one_of("input.layout", self.layout, LAYOUTS, ContractError)


@dataclass(frozen=True)
class Contract:
    """Everything that the engine needs to know beside the graph itself.

    `method` and `heatmap_size` are of a file that emits the finished heatmap: the method's name
    (None where the file does not say it), and whether the map has the layer's size (`map`) or that
    of the picture input (`input`).
    """

    layers: tuple[Layer, ...]
    output: Output
    picture: Picture
    emit: str = "gradient"
    score: str = "logit"
    labels: tuple[str, ...] | None = None
    producer: Mapping[str, str] = field(default_factory=dict)
    method: str | None = None
    heatmap_size: str = "map"

    def __post_init__(self) -> None:
        if not self.layers:
            raise ContractError("contract: at least one layer is needed")
        _one_of("emit", self.emit, OUTPUTS_OF_EMIT, ContractError)
        _one_of("score", self.score, SCORES, ContractError)
        _one_of("heatmap_size", self.heatmap_size, HEATMAP_SIZES, ContractError)

    @property
    def layer(self) -> Layer:
        """The first layer."""
        return self.layers[0]

    def dumps(self) -> str:
        """The JSON document for the model's metadata."""
        preprocess = self.picture.preprocess
        document: dict[str, Any] = {
            "version": VERSION,
            "emit": self.emit,
            "layer": {"tensor": self.layer.tensor, "name": self.layer.name},
            "score": self.score,
            "output": {
                "name": self.output.name,
                "kind": self.output.kind,
                "activation": self.output.activation,
            },
            "input": {
                "name": self.picture.name,
                "dtype": self.picture.dtype,
                "layout": self.picture.layout,
                "preprocess": preprocess.to_json() if preprocess else None,
            },
            "labels": list(self.labels) if self.labels is not None else None,
            "producer": dict(self.producer),
        }
        if (self.output.scale, self.output.zero_point) != (1.0, 0):
            document["output"] |= {
                "scale": self.output.scale,
                "zero_point": self.output.zero_point,
            }
        if self.emit == "heatmap":
            document |= {"method": self.method, "heatmap_size": self.heatmap_size}
        if len(self.layers) > 1:
            document["layers"] = [{"tensor": x.tensor, "name": x.name} for x in self.layers]
        return json.dumps(document, ensure_ascii=False)

    @classmethod
    def loads(cls, text: str) -> Contract:
        """Parse and validate a JSON document.

        Raises:
            ContractError: not JSON, an unknown version, a missing or malformed field.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ContractError(
                f"the model's '{METADATA_KEY}' metadata is not JSON: {error}"
            ) from error
        if not isinstance(document, dict):
            raise ContractError(f"the model's '{METADATA_KEY}' metadata is not a JSON object")
        if document.get("version") != VERSION:
            raise ContractError(
                f"contract version: expected {VERSION}, found {document.get('version')!r}; "
                "export the model again with this version of onnxcam, or upgrade onnxcam"
            )
        try:
            return cls._from_document(document)
        except (KeyError, TypeError, AttributeError, PreprocessError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise ContractError(
                f"the model's '{METADATA_KEY}' metadata is malformed: {reason}"
            ) from error

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> Contract:
        picture = document["input"]
        preprocess = picture.get("preprocess")
        labels = document.get("labels")
        if labels is not None and not _is_list_of(labels, str):
            raise ContractError("labels: expected a list of strings")
        return cls(
            layers=tuple(
                Layer(_text(x["tensor"]), _text_or_none(x.get("name")))
                for x in document.get("layers", [document["layer"]])
            ),
            output=Output(
                _text(document["output"]["name"]),
                document["output"]["kind"],
                document["output"].get("activation"),
                document["output"].get("scale", 1.0),
                document["output"].get("zero_point", 0),
            ),
            picture=Picture(
                _text(picture["name"]),
                _text(picture["dtype"]),
                picture["layout"],
                Preprocessing.from_json(preprocess) if preprocess is not None else None,
            ),
            emit=document["emit"],
            score=document["score"],
            labels=tuple(labels) if labels is not None else None,
            producer={_text(k): _text(v) for k, v in document.get("producer", {}).items()},
            method=_text_or_none(document.get("method")),
            heatmap_size=document.get("heatmap_size", "map"),
        )


def _one_of(key: str, value: Any, allowed: Any, error: type[Exception] = PreprocessError) -> None:
    if value not in tuple(allowed):
        raise error(f"{key}: expected one of {', '.join(allowed)}; got {value!r}")


def _positive_int(key: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise PreprocessError(f"{key}: expected a whole number greater than zero, got {value!r}")


def _number(key: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise PreprocessError(f"{key}: expected a number, got {value!r}")
    if not math.isfinite(value):
        raise PreprocessError(f"{key}: expected a finite number, got {value!r}")
    return float(value)


def _numbers(key: str, values: Any) -> tuple[float, ...]:
    if isinstance(values, (int, float)):
        values = (values,)
    if not isinstance(values, (list, tuple)) or not values:
        raise PreprocessError(f"{key}: expected a list of numbers, got {values!r}")
    return tuple(_number(key, value) for value in values)


def _known_keys(name: str, document: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(document, dict):
        raise PreprocessError(f"{name}: expected a JSON object, got {document!r}")
    unknown = sorted(set(document) - set(keys))
    if unknown:
        raise PreprocessError(f"{name}: unknown key {unknown[0]!r}; known are {', '.join(keys)}")


def _is_list_of(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {value!r}")
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)
