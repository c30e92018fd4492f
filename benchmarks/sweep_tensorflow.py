"""One Keras network on TensorFlow against GradientTape, as a row of the sweep; one JSON line.

KERAS_BACKEND=tensorflow python benchmarks/sweep_tensorflow.py NASNetMobile
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import keras
import numpy as np
from sweep_gradients import NEAR, TARGETS, by_picture, relative, set_third_errors
from sweep_layers import Explained, operators_behind, tensors
from sweep_networks import build_network, keras_twin
from sweep_oracle import MATCH

from onnxcam_export.layers import Layers
from onnxcam_export.loading import prepare
from onnxcam_export.score import find_score
from onnxcam_export.sources import _keras_tensorflow, keras_model


def main(name: str) -> None:
    network = build_network("keras", name)
    source = keras_model.capture(network.model)
    row: dict[str, Any] = {"exporter": "tf2onnx", "side": network.side}
    row["parameters"] = network.parameters
    twin = keras_twin(network)
    activations = _activations(network.model, network.pictures)

    def gradients(layer: str, score: str) -> list[np.ndarray]:
        return [_gradient(model, layer, network.pictures, score) for model in (network.model, twin)]

    def closest(layers: list[str], score: str, found: np.ndarray) -> list[np.ndarray]:
        answers = [gradients(layer, score) for layer in layers]
        # TensorFlow merges equal layers when it prepares the graph; their gradients add up.
        answers.append([sum(each) for each in zip(*answers, strict=True)])
        return min(answers, key=lambda answer: float(np.median(by_picture(found, answer[0]))))

    explained = Explained(source, None, "logit")
    row.update(layer=explained.name, tensor=explained.tensor, shape=explained.shape)
    layers = _with_values(activations, explained.raw(source, network.pictures))
    if not layers:
        raise LookupError(f"no Keras layer has the values of '{explained.tensor}'")
    row["nodes"] = explained.nodes
    for score in ("logit", "probability"):
        explained = Explained(source, None, score)
        _, found = explained.run(network.pictures, TARGETS)
        expected, exact = closest(layers, score, found)
        row[f"default {score}"] = relative(found, expected)
        row[f"default {score} 64"] = [relative(found, exact), relative(expected, exact)]
        if score == "logit":
            row["largest"] = float(np.abs(expected).max())

    tensor, layers = _near_a_third(source, activations, network.pictures)
    explained = Explained(source, tensor, "logit")
    _, found = explained.run(network.pictures, TARGETS)
    expected, exact = closest(layers, "logit", found)
    row.update({"third tensor": tensor, "third layer": layers[0], "third shape": explained.shape})
    row["operators"] = operators_behind(source, tensor)
    row["third largest"] = float(np.abs(expected).max())
    row["third logit"] = float(np.median(by_picture(found, expected)))
    set_third_errors(row, by_picture(found, exact), by_picture(expected, exact))
    print(json.dumps(row))


def _activations(model: Any, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """What every layer puts out, by its name."""
    layers = [x for x in model.layers if len(getattr(x.output, "shape", ())) == 4]
    every = keras.Model(model.inputs, [layer.output for layer in layers])
    values = every(pictures, training=False)
    return {layer.name: np.asarray(v) for layer, v in zip(layers, values, strict=True)}


def _with_values(activations: dict[str, np.ndarray], wanted: np.ndarray) -> list[str]:
    """The layers with these values, in TensorFlow's layout or the graph's.

    Several have them where several layers do the same to one tensor, as NASNet's ReLUs.
    """
    return [
        name
        for name, values in activations.items()
        for turned in (values, np.moveaxis(values, -1, 1))
        if turned.shape == wanted.shape and np.median(by_picture(turned, wanted)) <= MATCH
    ]


def _near_a_third(
    source: Any, activations: dict[str, np.ndarray], pictures: np.ndarray
) -> tuple[str, list[str]]:
    graph = prepare(source.model).graph
    candidates = Layers(graph, find_score(graph, "logit").value).candidates()
    third = len(candidates) // 3
    near = sorted(candidates, key=lambda c: abs(candidates.index(c) - third))[: 2 * NEAR]
    names = [str(candidate.value.name) for candidate in near]
    for name, value in zip(names, tensors(source, names, pictures), strict=True):
        layers = _with_values(activations, value)
        if layers:
            return name, layers
    raise LookupError(f"no Keras layer has the values of {', '.join(names[:3])}, ...")


def _gradient(model: Any, layer: str, pictures: np.ndarray, score: str) -> np.ndarray:
    oracle = _keras_tensorflow.oracle(
        model, lambda tensors: [model(tensors[0], training=False)], model.get_layer(layer), layer
    )
    _, gradient = oracle(pictures, TARGETS, score)
    return np.moveaxis(gradient, -1, 1)


if __name__ == "__main__":
    main(sys.argv[1])
