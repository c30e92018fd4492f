"""What a caller may say in place of the file: preprocessing and labels, checked against it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxcam.contract import Preprocessing
from onnxcam.errors import InputError, PreprocessError
from onnxcam.labels import read_labels
from onnxcam.model import Model
from onnxcam.presets import parse_preprocess
from onnxcam.session import TensorInfo

_FEWEST_LEVELS = 15.5  # a picture in 16 shades is still one


def find_preprocess(model: Model, given: Any) -> Preprocessing | None:
    """The preprocessing given, or the file's own; None where neither says it.

    Raises:
        PreprocessError: it contradicts the model's input.
    """
    info, picture = model.picture_input, model.contract.picture
    found = picture.preprocess if given is None else given
    if len(info.shape) != 4:
        if found is not None and found != "none":
            raise PreprocessError(
                f"preprocess: input '{info.name}' has {len(info.shape)} axes, a picture needs 4"
            )
        return None
    _, *sides = info.shape
    channels, h, w = sides if picture.layout == "NCHW" else (sides[2], sides[0], sides[1])
    size = (h, w) if h is not None and w is not None else None
    preprocess = parse_preprocess(found, size, channels=channels)
    if preprocess is not None:
        for wanted, side in zip((h, w), preprocess.size, strict=True):
            if wanted is not None and wanted != side:
                raise PreprocessError(
                    f"preprocess: size {preprocess.size[0]}x{preprocess.size[1]} contradicts "
                    f"the model's input, {h or 'any'}x{w or 'any'}"
                )
        if given is not None and info.dtype is not None and info.dtype.kind in "iu":
            _check_integers(preprocess, info)
    return preprocess


def _check_integers(preprocess: Preprocessing, info: TensorInfo) -> None:
    """Raise PreprocessError where rounding to the input's integers would leave no picture."""
    assert info.dtype is not None
    limits = np.iinfo(info.dtype)
    ends = np.array([[0.0], [255.0]]) * preprocess.scale
    low, high = ((ends - preprocess.mean) / preprocess.std).round(1)
    off = (low < limits.min - 0.5) | (high > limits.max + 0.5) | (high - low < _FEWEST_LEVELS)
    if off.any():
        raise PreprocessError(
            f"preprocess: input '{info.name}' takes integers ({info.dtype}), this makes "
            f"{low.min():g} to {high.max():g} of the pixels; leave preprocess out (a file that "
            "takes bytes normalises them itself), or give one that makes such integers"
        )


def find_labels(model: Model, given: Any) -> tuple[str, ...] | None:
    """The labels given, as names or as the path of a file, or the file's own.

    Raises:
        InputError: their number is not that of the classes.
    """
    if given is None:
        labels = model.contract.labels
    elif isinstance(given, (str, os.PathLike)):
        labels = read_labels(given)
    else:
        labels = tuple(str(label) for label in given)
    if labels is not None:
        check_label_count(labels, model.classes)
    return labels


def check_label_count(labels: Sequence[str], classes: int | None) -> None:
    """Raise InputError unless there is a label for every class, where their number is known."""
    if classes is not None and len(labels) != classes:
        raise InputError(
            f"labels: {len(labels)} names for {classes} classes; take the labels that the model "
            "was trained with (some count a background class)"
        )
