"""Tutorial system 3: Keras VGG16, block5_conv3, `0.4 * jet + picture` rescaled to 0..255."""

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

LAYER = "block5_conv3"


@pytest.fixture(scope="module")
def image():
    # One for which no hidden unit lies within rounding of zero (the nearest is 2e-4 of their spread
    # away): on either side of a ReLU's kink, two float32 forward passes have different gradients.
    raw = 255 * pictures((1, 224, 224, 3), seed=32)
    return np.asarray(keras.applications.vgg16.preprocess_input(raw), np.float32)


@pytest.fixture(scope="module")
def tutorial(image):
    """Class, activation, gradient and exported model; the Keras model itself is let go."""
    keras.utils.set_random_seed(3)
    model = keras.applications.VGG16(weights=None)
    settle_keras(model, image, gain=2**0.5)
    return keras_tutorial(model, LAYER, image, None), from_keras(model, LAYER, "probability")


def test_gradient_and_map_are_the_tutorials(tutorial, image):
    (chosen, activation, gradient), exported = tutorial
    session = open_session(exported)
    scores, found_activation, found_gradient = run_explaining(session, image, -1)
    assert int(scores.argmax()) == chosen
    assert relative_error(found_activation, activation.transpose(2, 0, 1)) < 1e-4
    assert relative_error(found_gradient, gradient.transpose(2, 0, 1)) < 1e-4
    expected = unit_map(gradcam_channels_last(activation, gradient))
    found = Engine(exported.SerializeToString()).maps(image, -1)[0]
    assert np.abs(found - expected).max() < 1e-4


def test_overlay_is_the_tutorials(tutorial):
    (_, activation, gradient), _ = tutorial
    heat = unit_map(gradcam_channels_last(activation, gradient)).astype(np.float32)
    picture = (255 * pictures((1, 300, 451, 3), seed=31)[0]).astype(np.uint8)
    jet = matplotlib.colormaps["jet"](np.arange(256))[:, :3]
    colored = keras.utils.array_to_img(jet[np.uint8(255 * heat)])
    colored = keras.utils.img_to_array(colored.resize((451, 300)))
    expected = np.asarray(keras.utils.array_to_img(colored * 0.4 + picture))
    found = overlay(heat, picture, preset="keras-additive")
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
