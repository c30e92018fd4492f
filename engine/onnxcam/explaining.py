"""From pictures to results: one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.attribution import Attribution
from onnxcam.buffers import new_array
from onnxcam.diagnosis import Diagnosis, diagnose
from onnxcam.errors import InputError
from onnxcam.model import Arrays, Model
from onnxcam.pictures import Pixels
from onnxcam.preprocess import Preparation
from onnxcam.result import Result
from onnxcam.scores import as_rows, probabilities
from onnxcam.settings import check_label_count
from onnxcam.workspace import Workspace


def explain_batch(
    model: Model,
    preparation: Preparation,
    pictures: Sequence[Pixels],
    targets: list[list[int]],
    *,
    workspace: Workspace,
    method: str | None,
    layer: int,
    further: Arrays,
    labels: tuple[str, ...] | None,
) -> list[list[Result]]:
    """Results by picture and target; `targets` are as many for every picture.

    What a picture alone needs stays in the workspace: without fresh memory MobileNetV2's takes
    0.2 ms less. Of several pictures nothing is kept, which could be much.
    """
    # A fixed batch size is filled up with copies of the last picture.
    missing = (model.picture_input.shape[0] or len(pictures)) - len(pictures)
    wanted = np.array(targets + targets[-1:] * missing, np.int64)
    alone = len(wanted) == 1
    place = workspace.buffers if alone else new_array
    tensor = place("tensor", (len(wanted), *preparation.shape), preparation.dtype)
    seen = [preparation.fill(*each) for each in zip(pictures, tensor, strict=False)]
    tensor[len(pictures) :] = tensor[len(pictures) - 1]
    if missing:
        further = {k: _filled(value, len(pictures), missing) for k, value in further.items()}
    feeds = {**model.checked_inputs(further), model.contract.picture.name: tensor}
    outputs, chosen = model.run_for_classes(
        feeds, wanted, layer, workspace.binding.run if alone else None
    )
    found = workspace.attribute(
        outputs,
        model.contract.emit,
        method,
        layer,
        several=model.targets_per_image is not None,
        own=("raw", "finished", "summary"),
    )
    if found.raw.ndim != 4:
        raise InputError(
            f"the layer has {found.raw.ndim - 2} spatial axes, a picture's map needs 2; use maps()"
        )
    output = model.contract.output
    scores = as_rows(outputs[output.name], output)
    if labels is not None:
        check_label_count(labels, scores.shape[1])
    owned = {name: outputs[name] for name in model.own_outputs}
    if workspace.stays(outputs):
        owned = {name: value.copy() for name, value in owned.items()}
    results: list[list[Result]] = []
    for i, picture in enumerate(pictures):
        own = {name: _of_one(value, i, len(scores)) for name, value in owned.items()}
        results.append(
            [
                Result(
                    picture=picture,
                    map=found.finished[i, k],
                    raw=found.raw[i, k],
                    rectangle=seen[i],
                    target=int(target),
                    scores=scores[i],
                    scoring=output,
                    outputs=own,
                    diagnosis=diagnosis_of(model, found, i, k, scores[i], int(target)),
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
    scores: NDArray[np.float32],
    target: int,
) -> Diagnosis:
    """What the map of image i for its target k says; `scores` are the image's."""
    chances = None
    if model.contract.score == "probability":
        chances = probabilities(scores, model.contract.output)
    return diagnose(
        found.summary[i, k],
        found.raw[i, k].size,
        None if found.slopes is None else found.slopes[i, k],
        None if chances is None else float(chances[target]),
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
