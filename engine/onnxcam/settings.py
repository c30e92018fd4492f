"""What a caller may say in place of the file: preprocessing and labels, checked against it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from onnxcam.contract import Preprocessing
from onnxcam.errors import InputError, PreprocessError
from onnxcam.labels import read_labels
from onnxcam.model import Model
from onnxcam.presets import parse_preprocess


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
    return preprocess


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
