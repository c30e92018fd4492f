"""Preprocessing by the names the field uses, and from JSON.

`imagenet` is torchvision's evaluation transform; `caffe`, `tf` and `unit` are the modes of
`keras.applications` (its `load_img` resizes with nearest neighbour and stretches).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onnxcam.contract import Preprocessing, Resize
from onnxcam.errors import PreprocessError

_KERAS_RESIZE = Resize(mode="stretch", filter="nearest", antialias=False)


def _imagenet(size: tuple[int, int], color: str) -> Preprocessing:
    return Preprocessing(
        size=size,
        color=color,
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        resize=Resize(
            mode="crop",
            shorter_side=round(max(size) * 256 / 224),
            filter="bilinear",
            antialias=True,
        ),
    )


def _caffe(size: tuple[int, int], color: str) -> Preprocessing:
    mean = (103.939, 116.779, 123.68)  # of blue, green, red
    return Preprocessing(size=size, color="BGR", mean=mean, resize=_KERAS_RESIZE)


def _tf(size: tuple[int, int], color: str) -> Preprocessing:
    return Preprocessing(size=size, color=color, scale=1 / 127.5, mean=(1.0,), resize=_KERAS_RESIZE)


def _unit(size: tuple[int, int], color: str) -> Preprocessing:
    return Preprocessing(size=size, color=color, scale=1 / 255, resize=_KERAS_RESIZE)


PRESETS: dict[str, Callable[[tuple[int, int], str], Preprocessing]] = {
    "imagenet": _imagenet,
    "caffe": _caffe,
    "tf": _tf,
    "unit": _unit,
}
NONE = "none"
_NEEDS_THREE_CHANNELS = ("imagenet", "caffe")
_DEFAULT_SIZE = {"imagenet": (224, 224)}


def parse_preprocess(
    spec: str | os.PathLike[str] | Mapping[str, Any] | Preprocessing | None,
    size: tuple[int, int] | None = None,
    *,
    channels: int | None = None,
) -> Preprocessing | None:
    """Turn what a user gives into a :class:`Preprocessing`.

    Args:
        spec: a preset's name (`imagenet`, `caffe`, `tf`, `unit`, `none`), the path of a JSON
            file, its content as a mapping, a Preprocessing, or None.
        size: (height, width) of the model's input, None where the model leaves it open.
        channels: channels of the model's input if known; 1 makes `tf` and `unit` grey.

    Returns:
        The preprocessing, or None for `none` and None.

    Raises:
        PreprocessError: an unknown preset, an unreadable file, a size that is missing or
            contradicts the model, a number of channels that contradicts the model.

    Examples:
        >>> parse_preprocess("imagenet", (299, 299)).resize.shorter_side
        342
        >>> parse_preprocess("none") is None
        True
    """
    if spec is None or spec == NONE:
        return None
    if isinstance(spec, Preprocessing):
        found = spec
    elif isinstance(spec, Mapping):
        found = _from_document(dict(spec), size)
    elif isinstance(spec, str) and spec in PRESETS:
        found = _from_preset(spec, size, channels)
    elif isinstance(spec, (str, os.PathLike)):
        found = _from_document(_read_json(Path(spec)), size)
    else:
        raise PreprocessError(f"preprocess: expected a preset or a JSON file, got {spec!r}")
    if size is not None and tuple(found.size) != tuple(size):
        raise PreprocessError(
            f"preprocess: size {_x(found.size)} contradicts the model's input {_x(size)}"
        )
    if channels is not None and found.channels != channels:
        raise PreprocessError(
            f"preprocess: color {found.color!r} has {found.channels} channels, "
            f"the model's input has {channels}"
        )
    return found


def _from_preset(name: str, size: tuple[int, int] | None, channels: int | None) -> Preprocessing:
    if channels == 1 and name in _NEEDS_THREE_CHANNELS:
        raise PreprocessError(
            f"preprocess: preset '{name}' is for colour pictures, the model's input has 1 channel; "
            "use 'unit' or 'tf', or a JSON file"
        )
    size = size or _DEFAULT_SIZE.get(name)
    if size is None:
        raise PreprocessError(
            f"preprocess: the model leaves its input size open and preset '{name}' has none; "
            'give "size": [height, width] in a JSON file'
        )
    return PRESETS[name](size, "GRAY" if channels == 1 else "RGB")


def _from_document(document: Any, size: tuple[int, int] | None) -> Preprocessing:
    if isinstance(document, dict) and document.get("size") is None:
        if size is None:
            raise PreprocessError(
                'preprocess: the model leaves its input size open; give "size": [height, width]'
            )
        document = document | {"size": list(size)}
    return Preprocessing.from_json(document)


def _read_json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PreprocessError(
            f"preprocess: '{path}' is neither a preset ({', '.join(PRESETS)}, {NONE}) "
            "nor an existing JSON file"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise PreprocessError(f"preprocess: cannot read '{path}': {error}") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise PreprocessError(f"preprocess: '{path}' is not JSON: {error}") from error


def _x(size: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in size)
