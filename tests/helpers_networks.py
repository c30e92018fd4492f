"""Random networks that behave like trained ones, and the tutorials' arithmetic on them.

With freshly drawn weights a deep network's statistics drift away and its scores hardly differ.
So batch-norm statistics are measured on random pictures, and the classifier is scaled until the
scores of the classes spread by about 1: no probability saturates and no gradient vanishes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import torch


def pictures(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Smooth random pictures, float32 in [0, 1], [N, H, W, C]: noise of several sizes."""
    random = np.random.default_rng(seed)
    count, height, width, channels = shape
    total = np.zeros(shape, np.float32)
    for cells in (4, 16, 64):
        noise = random.random((count, cells, cells, channels), np.float32)
        rows = np.arange(height) * cells // height
        columns = np.arange(width) * cells // width
        total += noise[:, rows][:, :, columns]
    return total / 3


def settle_torch(module: torch.nn.Module, classifier: torch.nn.Linear, batch: torch.Tensor) -> None:
    """Measure batch-norm statistics on `batch` [N, C, H, W], then scale the classifier."""
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        module(batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
        spread = module(batch).std(dim=1).mean()
        classifier.weight /= spread
        classifier.bias.zero_()


def settle_keras(model: Any, batch: np.ndarray, gain: float = 1.0) -> None:
    """The same for a Keras model that ends in Dense with softmax; batch [N, H, W, C].

    `gain` multiplies the other kernels first: sqrt(2) undoes the halving by every ReLU of a
    network without batch norm, whose kernels Keras draws for linear layers.
    """
    import keras

    dense = model.layers[-1]
    for layer in model.layers:
        if layer is not dense and gain != 1.0 and hasattr(layer, "kernel"):
            layer.kernel.assign(layer.kernel * gain)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 0.0
        if norms:
            model(batch, training=True)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        dense.activation = keras.activations.linear
        logits = model(batch, training=False)
        dense.kernel.assign(dense.kernel / logits.std(dim=1).mean())
        dense.activation = keras.activations.softmax


def keras_tutorial(
    model: Any, layer: str, image: np.ndarray, index: int | None
) -> tuple[int, np.ndarray, np.ndarray]:
    """What the Keras tutorials compute: a model with two outputs and the framework's autograd.

    Args:
        model: a functional Keras model on the torch backend that ends in softmax.
        layer: the layer's name.
        image: [1, H, W, C].
        index: the class, or None for the one with the highest probability.

    Returns:
        Class, activation and gradient of its probability, both [h, w, channels].
    """
    import keras

    two = keras.Model(model.inputs, [model.get_layer(layer).output, model.outputs[0]])
    with torch.enable_grad():
        activation, predictions = two([image], training=False)
        if index is None:
            index = int(predictions[0].argmax())
        (gradient,) = torch.autograd.grad(predictions[:, index].sum(), activation)
    return index, activation[0].detach().cpu().numpy(), gradient[0].detach().cpu().numpy()


def gradcam_channels_last(activation: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The tutorials' raw map [h, w]: channels weighted by their mean gradient, summed."""
    return activation @ gradient.mean(axis=(0, 1))


def unit_map(raw: np.ndarray) -> np.ndarray:
    """The tutorials' map in [0, 1]: ReLU, divided by the maximum."""
    positive = np.maximum(raw, 0)
    assert positive.max() > 0, "the network gives an empty map: choose another seed"
    return positive / positive.max()


def open_session(model: Any) -> ort.InferenceSession:
    """Plain onnxruntime, without our engine."""
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run_explaining(
    session: ort.InferenceSession, tensor: np.ndarray, target: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [classes], activation and gradient [C, h, w] of one image."""
    name = next(i.name for i in session.get_inputs() if i.name != "cam_target")
    scores, activation, gradient = session.run(
        [session.get_outputs()[0].name, "cam_activation", "cam_gradient"],
        {name: tensor, "cam_target": np.array([target], np.int64)},
    )
    return scores[0], activation[0], gradient[0]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest error, relative to the largest expected value."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    highest = float(np.abs(expected).max())
    assert highest > 0, "nothing to compare: all zero"
    return float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()) / highest
