"""Names of the files beside an ONNX file that hold its weights, read without onnx.

Protobuf's wire format is a sequence of (field number, wire type, value); only the fields on the way
to a tensor's `external_data` are entered, everything else is skipped (numbers: onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from onnxcam.errors import ModelError

# message -> field number -> message
_ENTERED = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2  # of an entry
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
_DEEPEST = 64


def external_files(model: Path) -> list[Path]:
    """Files that the tensors of an ONNX file refer to, relative to its folder, each once.

    Raises:
        ModelError: not readable, not ONNX, or a reference that leaves the folder.
    """
    try:
        content = memoryview(model.read_bytes())
        found = dict.fromkeys(_locations(content, "model", 0))
    except OSError as error:
        raise ModelError(f"cannot read '{model}': {error.strerror}") from error
    except (IndexError, UnicodeDecodeError) as error:
        raise ModelError(f"'{model}' is truncated or not an ONNX model") from error
    folder = model.parent.resolve()
    for name in found:
        if not (folder / name).resolve().is_relative_to(folder):
            raise ModelError(f"'{model}' refers to data outside of its folder ('{name}'); refused")
    return [Path(name) for name in found]


def _locations(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise IndexError("nested too deeply")
    for number, value in _fields(message):
        inner = _ENTERED[kind].get(number)
        if inner is None or value is None:
            continue
        if inner != "entry":
            yield from _locations(value, inner, depth + 1)
            continue
        entry = {n: bytes(v) for n, v in _fields(value) if v is not None}
        if entry.get(_KEY) == b"location":
            yield entry.get(_VALUE, b"").decode()


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """Field numbers with their bytes, None for numbers."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire, value = tag & 7, None
        if wire == _VARINT:
            _, at = _varint(message, at)
        elif wire in (_EIGHT, _FOUR):
            at += 8 if wire == _EIGHT else 4
        elif wire == _BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            raise IndexError("unknown wire type")
        if at > len(message):
            raise IndexError("beyond the end")
        yield tag >> 3, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
        if shift > 63:
            raise IndexError("a number of more than 64 bits")
