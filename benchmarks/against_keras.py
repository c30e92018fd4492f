"""Explaining Keras networks: onnxcam against Grad-CAM as the Keras tutorials write it.

    KERAS_BACKEND=torch python benchmarks/against_keras.py
    KERAS_BACKEND=tensorflow python benchmarks/against_keras.py    # GradientTape; needs tf2onnx

A model with two outputs, the layer's and the scores; the gradient of a class score by the
backend's autograd; its mean over space as weights. On TensorFlow called eagerly, as the tutorials
do, and compiled by tf.function. Random weights, 224x224, batch 1, tensor in and map out, one
process with as many threads for everybody. Maps must agree within 0.01 before they are timed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from against_records import Records, Road, compare, measure, show

from onnxcam_export.sources.keras_model import choose_backend

BACKEND = choose_backend()

import keras  # noqa: E402  # the backend is chosen first
import numpy as np  # noqa: E402

from onnxcam import Engine  # noqa: E402
from onnxcam_export import from_keras  # noqa: E402

# keras.applications' name -> the last activation
LAYERS = {"MobileNetV2": "out_relu", "ResNet50": "conv5_block3_out"}
LARGEST_DIFFERENCE = 0.01
OURS = "onnxcam"
Explain = Callable[[np.ndarray, int], np.ndarray]


def scaled(heatmap: np.ndarray) -> np.ndarray:
    """ReLU, divided by the maximum."""
    positive = np.maximum(heatmap, 0)
    return positive / positive.max()


def on_torch(model: Any) -> dict[str, Explain]:
    import torch

    def explain(images: np.ndarray, target: int) -> np.ndarray:
        activation, scores = model(images, training=False)
        (gradient,) = torch.autograd.grad(scores[0, target], activation)
        raw = (gradient.mean(dim=(1, 2), keepdim=True) * activation).sum(dim=-1)
        return scaled(raw[0].detach().numpy())

    return {"Keras on PyTorch, autograd.grad": explain}


def on_tensorflow(model: Any) -> dict[str, Explain]:
    import tensorflow as tf

    def explain(images: Any, target: int) -> Any:
        with tf.GradientTape() as tape:
            activation, scores = model(images, training=False)
            score = scores[:, target]
        pooled = tf.reduce_mean(tape.gradient(score, activation), axis=(0, 1, 2))
        heatmap = tf.maximum(tf.squeeze(activation @ pooled[:, tf.newaxis]), 0)
        return heatmap / tf.reduce_max(heatmap)

    compiled = tf.function(explain)
    return {
        "Keras on TensorFlow, GradientTape": lambda x, t: explain(x, t).numpy(),
        "Keras on TensorFlow, GradientTape in tf.function": lambda x, t: compiled(
            tf.constant(x), tf.constant(t)
        ).numpy(),
    }


def plain_roads(model: Any, images: np.ndarray) -> dict[str, Road]:
    """The forward pass alone, called as the tutorials call it."""
    if BACKEND == "tensorflow":
        return {"Keras, plain forward": lambda: model(images, training=False).numpy()}
    import torch

    def forward() -> Any:
        with torch.inference_mode():
            return model(images, training=False)

    return {"Keras, plain forward": forward}


def set_threads(threads: int) -> None:
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    else:
        import torch

        torch.set_num_threads(threads)


def against(network: str, threads: int, seconds: float) -> dict[str, Any]:
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, network)
    model = make(weights=None, classifier_activation=None)
    layer = model.get_layer(LAYERS[network])
    both = keras.Model(model.inputs, [layer.output, model.output])
    file = from_keras(model, layer=LAYERS[network]).SerializeToString()
    engine = Engine(file, threads=threads)
    images = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    target = int(np.argmax(keras.ops.convert_to_numpy(model(images, training=False))))
    turned = engine.model.picture_input.shape[1] == 3
    tensor = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if turned else images
    ours = engine.maps(tensor, target)[0].copy()
    roads: dict[str, Road] = {OURS: lambda: engine.maps(tensor, target)}
    checked = {}
    peers = on_tensorflow(both) if BACKEND == "tensorflow" else on_torch(both)
    for name, explain in peers.items():
        checked[name] = compare(explain(images, target), ours)
        if not checked[name]["difference"] <= LARGEST_DIFFERENCE:
            raise AssertionError(f"{name}: maps differ by {checked[name]['difference']:.3g}")
        roads[name] = lambda explain=explain: explain(images, target)
    record = measure(roads | plain_roads(model, images), seconds, OURS)
    return record | {"checked": checked, "skipped": {}, "keras": keras.__version__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--networks", nargs="+", default=["ResNet50", "MobileNetV2"], choices=LAYERS
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0, help="per network")
    parser.add_argument("--records", type=Path, help="JSON lines; what is there is not run again")
    args = parser.parse_args()
    set_threads(args.threads)
    records = Records(args.records)
    for network in args.networks:
        key = f"keras on {BACKEND}/{network}/batch 1"
        if key in records:
            continue
        print(f"{key} ...", file=sys.stderr, flush=True)
        record = {"key": key, "threads": args.threads}
        record |= against(network, args.threads, args.seconds)
        records.add(record)
        show(record)


if __name__ == "__main__":
    main()
