"""Run as a program: exports Keras models on TensorFlow and prints, as JSON, how they compare.

A process of its own, since Keras has one backend per process. The expected values come from
GradientTape on a model with two outputs, as the Keras tutorials write it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import onnxruntime as ort
import tensorflow as tf

from onnxcam.errors import OnnxcamError
from onnxcam_export import from_keras
from onnxcam_export.assemble import build as build_explaining
from onnxcam_export.sources import _keras_tensorflow
from onnxcam_export.sources.keras_model import capture, choose_backend
from onnxcam_export.verify import verify_each

layers = keras.layers


def build(end: str | None = "softmax", name: str = "model") -> keras.Model:
    """A grouped convolution, exact GELU, batch norm and a stride."""
    picture = keras.Input((24, 24, 3), name="picture")
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="first")(picture)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("gelu", name="gelu")(x)
    x = layers.Conv2D(12, 3, groups=4, activation="relu", name="grouped")(x)
    x = layers.Dense(6, activation=end, name="scores")(layers.Flatten()(x))
    return keras.Model(picture, x, name=name)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 24, 24, 3)).astype(np.float32)


def tutorial(model: keras.Model, layer: str, tensor: np.ndarray, targets: np.ndarray):
    two = keras.Model(model.inputs, [model.get_layer(layer).output, model.outputs[0]])
    with tf.GradientTape() as tape:
        activation, scores = two([tensor], training=False)
        chosen = tf.gather(scores, targets, axis=1, batch_dims=1)
    return activation.numpy(), tape.gradient(chosen, activation).numpy()


def explain(exported, tensor: np.ndarray, targets: np.ndarray, suffix: str = ""):
    """Activation and gradient [N, h, w, C], or activation and weights [N, C]."""
    session = ort.InferenceSession(exported.SerializeToString())
    given = [output.name for output in session.get_outputs()]
    kinds = [f"cam_gradient{suffix}", f"cam_weights{suffix}"]
    names = [f"cam_activation{suffix}", *[kind for kind in kinds if kind in given]]
    found = session.run(names, {"picture": tensor, "cam_target": targets})
    return [value.transpose(0, 2, 3, 1) if value.ndim == 4 else value for value in found]


def error(found, expected) -> float:
    """The largest error of activation and gradient, relative to the largest value of each."""
    assert all(np.abs(value).max() > 0 for value in expected)
    return max(
        float(np.abs(f - e).max() / np.abs(e).max()) for f, e in zip(found, expected, strict=True)
    )


def several_layers(model: keras.Model, tensor: np.ndarray, targets: np.ndarray):
    """Each of several layers of one file against the tutorial and, by verify, against Keras."""
    answer: dict[str, object] = {}
    wanted = {"grouped": "last_conv", "first": "first", "gelu": "gelu"}
    source = capture(model, list(wanted.values()))
    answer["several"] = [[c.asked, c.name, c.tensor] for c in source.captured]
    for emit in ("gradient", "weights"):
        built = build_explaining(
            source, layer=list(wanted.values()), score="probability", emit=emit
        )
        for index, layer in enumerate(wanted):
            activation, gradient = tutorial(model, layer, tensor, targets)
            expected = activation, gradient if emit == "gradient" else gradient.mean(axis=(1, 2))
            suffix = f"_{index}" if index else ""
            found = explain(built.model, tensor, targets, suffix)
            answer[f"several {layer} {emit}"] = error(found, expected)
        for each in verify_each(built, source):
            answer[each.oracle] = each.error
    try:
        capture(model, ["grouped", "last_conv"])
    except OnnxcamError as refusal:
        answer["twice"] = f"{type(refusal).__name__}: {refusal}"
    return answer


def main() -> None:
    keras.utils.set_random_seed(0)
    tensor, targets = images(3), np.array([0, 5, 2])
    model, bare = build(), build(None)
    bare.set_weights(model.get_weights())
    answer: dict[str, object] = {"backend": choose_backend()}
    for layer in ("first", "gelu", "grouped"):
        source = capture(model, layer)
        for score, judged in (("probability", model), ("logit", bare)):
            expected = tutorial(judged, layer, tensor, targets)
            exported = from_keras(model, layer, score=score)
            answer[f"graph {layer} {score}"] = error(explain(exported, tensor, targets), expected)
            oracle = source.captured[0].oracle(tensor, targets, score)
            answer[f"oracle {layer} {score}"] = error(oracle, expected)
    appended = capture(bare, "first").captured[0].oracle(tensor, targets, "probability")
    answer["oracle softmax appended"] = error(appended, tutorial(model, "first", tensor, targets))

    source = capture(model, "last_conv")
    answer["last_conv"] = source.captured[0].name
    answer["names"] = [
        value.name for value in (*source.model.graph.input, *source.model.graph.output)
    ]
    answer["batch"] = source.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    answer["channels_last"] = source.captured[0].channels_last
    answer["producer"] = sorted(source.producer)
    answer["restored"] = not any("call" in vars(layer) for layer in model._flatten_layers())

    answer |= several_layers(model, tensor, targets)

    nested = keras.Sequential([keras.Input((24, 24, 3), name="picture"), build(None, "inner")])
    nested.add(layers.Softmax())
    exported = from_keras(nested, "inner/gelu")
    oracle = capture(nested, "gelu").captured[0].oracle(tensor, targets, "logit")
    inner = tutorial(nested.get_layer("inner"), "gelu", tensor, targets)
    answer["graph nested"] = error(explain(exported, tensor, targets), inner)
    answer["oracle nested"] = error(oracle, inner)

    both = ["inner/gelu", "first"]
    exported = from_keras(nested, both)
    for index, captured in enumerate(capture(nested, both).captured):
        layer = captured.name.removeprefix("inner/")
        expected = tutorial(nested.get_layer("inner"), layer, tensor, targets)
        oracle = captured.oracle(tensor, targets, "logit")
        answer[f"oracle of two nested: {layer}"] = error(oracle, expected)
        found = explain(exported, tensor, targets, f"_{index}" if index else "")
        answer[f"graph of two nested: {layer}"] = error(found, expected)

    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        loaded = from_keras(Path(folder) / "model.keras", "first", score="probability")
    expected = tutorial(model, "first", tensor, targets)
    answer["graph of a file"] = error(explain(loaded, tensor, targets), expected)

    # Tensors that are no variables.
    picture = keras.Input((24, 24, 3), name="picture")
    x = layers.Normalization(mean=[0.5, 1, 2], variance=[2, 3, 4])(picture)
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    held = keras.Model(picture, layers.Dense(6)(layers.Flatten()(x)))
    answer["held inputs"] = [v.name for v in capture(held, "conv").model.graph.input]
    expected_of_held = tutorial(held, "conv", tensor, targets)
    answer["graph held"] = error(
        explain(from_keras(held, "conv"), tensor, targets), expected_of_held
    )

    # The matrices that TensorFlow's optimiser is not to see.
    _keras_tensorflow.LARGE_WEIGHT_BYTES = 1024
    large = capture(model, "first").model
    answer["large inputs"] = [value.name for value in large.graph.input]
    kept = [tensor for tensor in large.graph.initializer if tensor.name.startswith("onnxcam")]
    answer["large weights"] = [list(tensor.dims) for tensor in kept]
    exported = from_keras(model, "first", score="probability")
    answer["graph large"] = error(explain(exported, tensor, targets), expected)

    try:
        capture(model, "first", opset=19)
    except OnnxcamError as refusal:
        answer["opset 19"] = f"{type(refusal).__name__}: {refusal}"
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
