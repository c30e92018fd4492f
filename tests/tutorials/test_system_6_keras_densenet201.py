"""Tutorial system 6: Keras DenseNet201 without its top, a layer in the middle of the network.

Float32 itself wavers there, so the yardstick is a float64 computation: the exported gradient may
be three times as far from it as Keras' own float32 is.
"""

from __future__ import annotations

import keras
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
from onnxcam import Engine
from onnxcam_export import from_keras

LAYER = "conv3_block8_2_conv"
SIDE = 128


def build():
    base = keras.applications.DenseNet201(
        weights=None, include_top=False, input_shape=(SIDE, SIDE, 3)
    )
    flat = keras.layers.Flatten()(base.output)
    return keras.Model(base.input, keras.layers.Dense(10, activation="softmax")(flat))


@pytest.fixture(scope="module")
def image():
    bytes_ = (255 * pictures((1, SIDE, SIDE, 3), seed=61)).astype(np.uint8)
    return bytes_.astype(np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def model(image):
    keras.utils.set_random_seed(6)
    model = build()
    settle_keras(model, np.concatenate([image, pictures((3, SIDE, SIDE, 3), seed=6)]))
    return model


@pytest.fixture(scope="module")
def exact(model, image):
    """Class, activation and gradient in float64."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        wide = build()
    finally:
        keras.config.set_dtype_policy(before)
    wide.set_weights(model.get_weights())
    answer = keras_tutorial(wide, LAYER, image.astype(np.float64), None)
    assert answer[1].dtype == np.float64
    return answer


def test_error_is_at_most_three_times_keras_own(model, exact, image):
    chosen, _, exact_gradient = exact
    _, _, keras_gradient = keras_tutorial(model, LAYER, image, chosen)
    exported = from_keras(model, LAYER, score="probability")
    session = open_session(exported)
    scores, _, found_gradient = run_explaining(session, image, -1)
    assert int(scores.argmax()) == chosen
    kerass_error = relative_error(keras_gradient, exact_gradient)
    error = relative_error(found_gradient.transpose(1, 2, 0), exact_gradient)
    assert error <= max(1e-4, 3 * kerass_error), (error, kerass_error)

    exact_map = unit_map(gradcam_channels_last(*exact[1:]))
    found_map = Engine(exported.SerializeToString()).maps(image, -1)[0]
    keras_map = unit_map(gradcam_channels_last(*keras_tutorial(model, LAYER, image, chosen)[1:]))
    allowed = max(1e-4, 3 * np.abs(keras_map - exact_map).max())
    assert np.abs(found_map - exact_map).max() <= allowed
