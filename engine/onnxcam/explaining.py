"""From pictures to results: one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.attribution import Attribution, attribute
from onnxcam.diagnosis import Diagnosis, diagnose
from onnxcam.errors import InputError
from onnxcam.model import Arrays, Model
from onnxcam.pictures import Pixels
from onnxcam.preprocess import Preparation
from onnxcam.result import Result
from onnxcam.scores import as_rows, probabilities
from onnxcam.settings import check_label_count


def explain_batch(
    model: Model,
    preparation: Preparation,
    pictures: Sequence[Pixels],
    targets: list[list[int]],
    *,
    method: str | None,
    layer: int,
    further: Arrays,
    labels: tuple[str, ...] | None,
) -> list[list[Result]]:
    """Results by picture and target; `targets` are as many for every picture."""
    # A fixed batch size is filled up with copies of the last picture.
    missing = (model.picture_input.shape[0] or len(pictures)) - len(pictures)
    wanted = np.array(targets + targets[-1:] * missing, np.int64)
    tensor = np.empty((len(pictures) + missing, *preparation.shape), preparation.dtype)
    seen = [preparation.fill(*each) for each in zip(pictures, tensor, strict=False)]
    tensor[len(pictures) :] = tensor[len(pictures) - 1]
    if missing:
        further = {k: _filled(value, len(pictures), missing) for k, value in further.items()}
    feeds = {**model.checked_inputs(further), model.contract.picture.name: tensor}
    outputs, chosen = model.run_for_classes(feeds, wanted, layer)
    several = model.targets_per_image is not None
    found = attribute(outputs, model.contract.emit, method, layer, several=several)
    if found.raw.ndim != 4:
        raise InputError(
            f"the layer has {found.raw.ndim - 2} spatial axes, a picture's map needs 2; use maps()"
        )
    output = model.contract.output
    scores = as_rows(outputs[output.name], output)
    if labels is not None:
        check_label_count(labels, scores.shape[1])
    results: list[list[Result]] = []
    for i, picture in enumerate(pictures):
        chances = probabilities(scores[i], output)
        own = {name: _of_one(outputs[name], i, len(scores)) for name in model.own_outputs}
        results.append(
            [
                Result(
                    picture=picture,
                    map=found.finished[i, k],
                    raw=found.raw[i, k],
                    rectangle=seen[i],
                    target=int(target),
                    scores=scores[i],
                    probabilities=chances,
                    outputs=own,
                    diagnosis=diagnosis_of(model, found, i, k, chances, int(target)),
                    labels=labels,
                    method=method,
                    layer=model.contract.layers[layer].title,
                )
                for k, target in enumerate(chosen[i])
            ]
        )
    return results


def diagnosis_of(
    model: Model,
    found: Attribution,
    i: int,
    k: int,
    chances: NDArray[np.float64] | None,
    target: int,
) -> Diagnosis:
    """What the map of image i for its target k says; `chances` are the classes' probabilities."""
    differentiated = model.contract.score == "probability" and chances is not None
    return diagnose(
        found.summary[i, k],
        found.raw[i, k].size,
        None if found.slopes is None else found.slopes[i, k],
        float(chances[target]) if differentiated and chances is not None else None,
    )


def share(value: NDArray[Any], part: slice, count: int) -> NDArray[Any]:
    """The part of an input that goes with some of the pictures; all of it where it is for all."""
    return value[part] if value.ndim and len(value) == count else value


def _filled(value: NDArray[Any], count: int, missing: int) -> NDArray[Any]:
    """An input that has an item for every picture, with copies of the last one behind."""
    if not value.ndim or len(value) != count:
        return value
    return np.concatenate([value, np.repeat(value[-1:], missing, axis=0)])


def _of_one(value: Any, i: int, batch: int) -> Any:
    """The part of an output that belongs to picture i; all of it where it has no batch axis."""
    has_batch = isinstance(value, np.ndarray) and value.ndim > 0 and len(value) == batch
    return value[i] if has_batch else value
