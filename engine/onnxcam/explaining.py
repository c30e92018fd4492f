"""From pictures to results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.attribution import Attribution, check_method
from onnxcam.buffers import new_array
from onnxcam.diagnosis import Diagnosis, diagnose
from onnxcam.errors import InputError, TargetError
from onnxcam.model import Arrays, Model
from onnxcam.pictures import Pixels, is_batch, open_picture
from onnxcam.preprocess import Preparation
from onnxcam.result import Result
from onnxcam.scores import as_rows, probabilities
from onnxcam.settings import check_label_count
from onnxcam.targets import resolve_target
from onnxcam.workspace import Workspace

if TYPE_CHECKING:
    from onnxcam.engine import Engine


def explain(
    engine: Engine,
    workspace: Workspace,
    picture: Any,
    target: Any,
    method: str | None,
    layer: int | str | None,
    inputs: Mapping[str, NDArray[Any]] | None,
) -> Any:
    """:meth:`onnxcam.Engine.explain`, in a workspace that nobody else uses meanwhile."""
    model, preparation = engine.model, engine.preparation
    name = check_method(engine.method if method is None else method, model.contract)
    several = is_batch(picture)
    sources = list(picture) if several else [picture]
    targets, is_list = _targets_of(engine, target, len(sources), several)
    index = model.find_layer(layer)
    further = model.named_inputs(inputs)
    size = model.picture_input.shape[0] or max(len(sources), 1)
    results: list[list[Result]] = []
    for start in range(0, len(sources), size):
        part = slice(start, start + size)
        results += explain_batch(
            model,
            preparation,
            [open_picture(source) for source in sources[part]],
            targets[part],
            workspace=workspace,
            method=name,
            layer=index,
            further={k: _share(value, part, len(sources)) for k, value in further.items()},
            labels=engine.labels,
        )
    if several:
        return [each[0] for each in results]
    return results[0] if is_list else results[0][0]


def _targets_of(
    engine: Engine, target: Any, count: int, several: bool
) -> tuple[list[list[int]], bool]:
    """The targets of each picture, and whether a list was given."""
    is_list = isinstance(target, (list, tuple, np.ndarray)) and np.ndim(target) > 0
    targets = list(target) if is_list else [target] * count
    found = [resolve_target(each, engine.labels, engine.model.classes) for each in targets]
    if is_list and not several:
        _check_target_count(engine.model, len(found))
        return [found], True
    if len(targets) != count:
        raise TargetError(f"target: {len(targets)} targets for {count} pictures")
    return [[each] for each in found], is_list


def _check_target_count(model: Model, count: int) -> None:
    per_image = model.targets_per_image
    if per_image is None:
        raise TargetError(
            "target: a list of targets needs a list of pictures, one each, or a file that "
            "takes several targets an image (export it with --targets K)"
        )
    if count < 1 or (per_image and count > per_image):
        raise TargetError(
            f"target: expected 1 to {per_image or 'K'} targets of a picture, got {count}"
        )


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
    found = workspace.attribute(outputs, method, layer, own=("raw", "finished", "summary"))
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
        chances = differentiated(model, scores[i])
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
                    diagnosis=diagnosis_of(found, i, k, chances, int(target)),
                    labels=labels,
                    method=method,
                    layer=model.contract.layers[layer].title,
                )
                for k, target in enumerate(chosen[i])
            ]
        )
    return results


def differentiated(model: Model, scores: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """An image's probabilities, where they are what the file differentiates."""
    if model.contract.score != "probability":
        return None
    return probabilities(scores, model.contract.output)


def diagnosis_of(
    found: Attribution, i: int, k: int, chances: NDArray[np.float64] | None, target: int
) -> Diagnosis:
    """What the map of image i for its target k says; `chances` as `differentiated` gives them."""
    return diagnose(
        found.summary[i, k],
        found.raw[i, k].size,
        None if found.slopes is None else found.slopes[i, k],
        None if chances is None else float(chances[target]),
    )


def _share(value: NDArray[Any], part: slice, count: int) -> NDArray[Any]:
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
