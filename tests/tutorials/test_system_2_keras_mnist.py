"""Tutorial system 2: the Keras MNIST network, its first convolution, the additive overlay."""

from __future__ import annotations

import keras
import matplotlib
import numpy as np
import pytest

from helpers_networks import (
    gradcam_channels_last,
    keras_tutorial,
    open_session,
    pictures,
    relative_error,
    run_explaining,
    settle_keras,
    unit_map,
)
from onnxcam import Engine, overlay
from onnxcam_export import from_keras

LAYER = "conv2d"


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(2)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", name=LAYER),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu", name="conv2d_1"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    settle_keras(model, pictures((8, 28, 28, 1), seed=2))
    return model


@pytest.fixture(scope="module")
def exported(model):
    return from_keras(model, LAYER, score="probability")


@pytest.fixture(scope="module")
def engine(exported):
    return Engine(exported.SerializeToString())


@pytest.fixture(scope="module")
def session(exported):
    return open_session(exported)


@pytest.mark.parametrize("index", [None, *range(10)])
def test_gradient_and_map_are_the_tutorials(model, session, engine, index):
    image = pictures((1, 28, 28, 1), seed=21)
    chosen, activation, gradient = keras_tutorial(model, LAYER, image, index)
    target = -1 if index is None else index
    scores, found_activation, found_gradient = run_explaining(session, image, target)
    if index is None:
        assert int(scores.argmax()) == chosen
    assert relative_error(found_activation, activation.transpose(2, 0, 1)) < 1e-4
    assert relative_error(found_gradient, gradient.transpose(2, 0, 1)) < 1e-4
    raw = gradcam_channels_last(activation, gradient)
    assert relative_error(engine.maps(image, target, signed=True)[0], raw) < 1e-4
    if raw.max() > 0:
        assert np.abs(engine.maps(image, target)[0] - unit_map(raw)).max() < 1e-4
    else:
        assert not engine.maps(image, target).any()


def test_overlay_is_the_tutorials_on_a_grey_picture_from_0_to_1(model):
    image = pictures((1, 28, 28, 1), seed=21)
    _, activation, gradient = keras_tutorial(model, LAYER, image, None)
    heat = unit_map(gradcam_channels_last(activation, gradient)).astype(np.float32)
    jet = matplotlib.colormaps["jet"](np.arange(256))[:, :3]
    colored = keras.utils.array_to_img(jet[np.uint8(255 * heat)])
    colored = keras.utils.img_to_array(colored.resize((28, 28)))
    expected = np.asarray(keras.utils.array_to_img(colored * 0.01 + image[0]))
    found = overlay(heat, image[0], alpha=0.01, preset="keras-additive")
    assert found.shape == (28, 28, 3)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
