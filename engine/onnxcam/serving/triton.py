"""Triton's configuration of an explaining file: `config.pbtxt`.

Source: Triton's model configuration (docs/user_guide/model_configuration.md of
triton-inference-server/server, model_config.proto of .../common) and what its onnxruntime backend
checks when it loads a model (`CompareDimsSupported`, `AutoCompleteIO` of .../onnxruntime_backend):

- with `max_batch_size` above 0 every input and output has an open first axis, which `dims` leaves
  out; an input [N] has no axis left, and since `dims` may not be empty it is asked for as [N, 1]
  and reshaped;
- otherwise `max_batch_size` is 0 and `dims` are whole shapes, of a scalar [1];
- an open axis is -1; the dims of outputs have to be exactly those of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.contract import TARGET
from onnxcam.errors import InputError, ModelError
from onnxcam.model import Model
from onnxcam.session import TensorInfo

LABELS_FILE = "labels.txt"
MODEL_FILE = "model.onnx"
DEFAULT_MAX_BATCH_SIZE = 8
CONTRACT_PARAMETER = "onnxcam"

# NumPy's names: Triton's (its table of datatypes)
_TYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "int8": "INT8", "int16": "INT16",
    "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """A model's configuration.

    Attributes:
        text: what stands in config.pbtxt.
        max_batch_size: 0 where the server may not put requests together.
        why_unbatched: the reason for that, None otherwise.
        labels: the names of the scored output's classes, which the text refers to as a file.
    """

    text: str
    max_batch_size: int
    why_unbatched: str | None
    labels: Sequence[str] | None


def configure(
    model: Model,
    name: str,
    *,
    max_batch_size: int | None = None,
    instances: int = 1,
    gpu: bool = False,
) -> Configuration:
    """The configuration under which Triton serves a model.

    Args:
        model: an explaining file, loaded on the CPU.
        name: the model's name on the server.
        max_batch_size: how many images the server may put into one run; None for
            DEFAULT_MAX_BATCH_SIZE where the file takes any number, else 0 (requests run as sent).
        instances: copies of the model that run at the same time.
        gpu: on every GPU of the server, instead of its CPU.

    Raises:
        InputError: a number out of range, or batches of a file that takes none.
        ModelError: an input or output of a type that Triton's onnxruntime backend does not serve.
    """
    _at_least("instances", instances, 1)
    if max_batch_size is not None:
        _at_least("max batch size", max_batch_size, 0)
    reason = _why_unbatched(model)
    if reason is not None and max_batch_size:
        raise InputError(
            f"max batch size {max_batch_size}: {model.session.title} cannot be batched: {reason}; "
            "leave it out, or export with an open batch axis"
        )
    batch = DEFAULT_MAX_BATCH_SIZE if max_batch_size is None else max_batch_size
    batch = 0 if reason is not None else batch
    labels = model.contract.labels
    scored = model.contract.output.name if labels is not None else None
    inputs = [_tensor(info, batch) for info in model.session.inputs.values()]
    outputs = [
        _tensor(info, batch, LABELS_FILE if info.name == scored else None)
        for info in model.session.outputs.values()
    ]
    kind = "KIND_GPU" if gpu else "KIND_CPU"
    lines = [
        f"name: {quoted(name)}",
        'backend: "onnxruntime"',
        f"default_model_filename: {quoted(MODEL_FILE)}",
        f"max_batch_size: {batch}",
        *(f"input {block}" for block in inputs),
        *(f"output {block}" for block in outputs),
        *(["dynamic_batching { }"] if batch > 1 else []),
        f"instance_group [ {{ count: {instances} kind: {kind} }} ]",
        "parameters {",
        f"  key: {quoted(CONTRACT_PARAMETER)}",
        f"  value {{ string_value: {quoted(model.contract.dumps())} }}",
        "}",
    ]
    return Configuration("\n".join(lines) + "\n", batch, reason, labels)


def quoted(text: str) -> str:
    """A string as protobuf's text format has it: UTF-8, control characters as octal escapes."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
    return '"' + "".join(escapes.get(c) or _printable(c) for c in text) + '"'


def _printable(character: str) -> str:
    code = ord(character)
    return character if code >= 32 and code != 127 else f"\\{code:03o}"


def _at_least(name: str, number: int, lowest: int) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < lowest:
        raise InputError(f"{name}: expected a whole number of at least {lowest}, got {number!r}")


def _why_unbatched(model: Model) -> str | None:
    """None where any number of images goes through in one run."""
    session = model.session
    for kind, infos in (("input", session.inputs), ("output", session.outputs)):
        for info in infos.values():
            if not info.shape or info.shape[0] is not None:
                return f"{kind} '{info.name}' has no open first axis"
    return _not_two_of_two(model)


def _not_two_of_two(model: Model) -> str | None:
    """An open axis may still be another than the batch: two images have to give two of all."""
    feeds = {}
    for info in model.session.inputs.values():
        sides = info.shape[1:]
        if info.name == model.contract.picture.name and model.contract.picture.preprocess:
            sides = _with_size(sides, model.contract.picture.preprocess.size)
        if info.name == TARGET:
            sides = tuple(side or 1 for side in sides)
        if info.dtype is None or None in sides:
            return None  # cannot be tried: the shapes say that it can
        feeds[info.name] = np.zeros((2, *(side for side in sides if side)), info.dtype)
    try:
        found = model.session.run(feeds, list(model.session.outputs))
    except ModelError as error:
        return f"it does not run on two images ({error})"
    wrong = next((name for name, value in found.items() if len(value) != 2), None)
    return None if wrong is None else f"output '{wrong}' is not one an image"


def _with_size(sides: tuple[int | None, ...], size: tuple[int, int]) -> tuple[int | None, ...]:
    """Open sides of a picture filled in from (height, width); channels are never open there."""
    rest = iter(size if sum(side is None for side in sides) == len(size) else ())
    return tuple(next(rest, None) if side is None else side for side in sides)


def _tensor(info: TensorInfo, batch: int, label_file: str | None = None) -> str:
    kind = None if info.dtype is None else _TYPES.get(info.dtype.name)
    if kind is None:
        raise ModelError(f"'{info.name}' is of a type that is not served; expected numbers or bool")
    shape = [-1 if side is None else side for side in info.shape]
    dims = shape[1:] if batch else shape
    lines = [f"  name: {quoted(info.name)}", f"  data_type: TYPE_{kind}"]
    lines.append(f"  dims: [ {', '.join(map(str, dims or [1]))} ]")
    if batch and not dims:
        lines.append("  reshape { shape: [ ] }")
    if label_file is not None:
        lines.append(f"  label_filename: {quoted(label_file)}")
    return "\n".join(["{", *lines, "}"])
