"""Which class is explained: from what a caller says to class indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.contract import HIGHEST_SCORE
from onnxcam.errors import TargetError
from onnxcam.labels import find_label


def resolve_target(target: Any, labels: Sequence[str] | None, classes: int | None) -> int:
    """One target of :meth:`Engine.explain` as an index, -1 for the highest score.

    Raises:
        TargetError: an unknown or ambiguous name, an index out of range, another type.
    """
    if target is None:
        return HIGHEST_SCORE
    if isinstance(target, str):
        return _from_text(target.strip(), labels, classes)
    if isinstance(target, (int, np.integer)) and not isinstance(target, (bool, np.bool_)):
        return check_range(int(target), classes)
    raise TargetError(f"target: expected an index, a class name or None, got {target!r}")


def check_range(index: int, classes: int | None) -> int:
    """`index`, if it is -1 or a class; with `classes` None only what can't be is refused."""
    if index < HIGHEST_SCORE or (classes is not None and index >= classes):
        last = "the number of classes" if classes is None else str(classes - 1)
        raise TargetError(f"target {index}: expected 0 to {last}, or -1 for the highest score")
    return index


def check_targets(
    targets: Any, images: int, per_image: int | None, classes: int | None
) -> NDArray[np.int64]:
    """The targets of :meth:`Engine.maps` as the model's input.

    Args:
        targets: None, one index for all images, or indices [N] or, for a model that takes K
            targets an image, [N, K].
        images: N.
        per_image: None for a model that takes [N]; else K, 0 where the model leaves it open.
        classes: number of classes where it is known.

    Raises:
        TargetError: another dtype, shape or range.
    """
    shape = (images,) if per_image is None else (images, per_image or 1)
    if targets is None:
        return np.full(shape, HIGHEST_SCORE, np.int64)
    array = np.asarray(targets)
    if array.dtype.kind not in "iu":
        raise TargetError(f"targets: expected integers, got {array.dtype}")
    if array.ndim == 0:
        array = np.full(shape, int(array), np.int64)
    if per_image == 0 and array.ndim == 2:
        shape = (images, max(1, array.shape[1]))
    if array.shape != shape:
        sides = [str(side) for side in shape]
        if per_image == 0:
            sides[1] = "K"
        raise TargetError(f"targets: expected [{', '.join(sides)}], got {list(array.shape)}")
    found = array.ravel().tolist()  # a few: NumPy's own minimum takes longer
    for index in (min(found), max(found)):
        check_range(index, classes)
    return np.ascontiguousarray(array, np.int64)


def _from_text(text: str, labels: Sequence[str] | None, classes: int | None) -> int:
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit():
        return check_range(int(text), classes)
    if labels is None:
        raise TargetError(
            f"target '{text}': the model has no labels; give the class index, or labels="
        )
    return find_label(labels, text)
