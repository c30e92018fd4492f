"""Tutorial system 1: Keras Xception, the softmax probability's gradient, OpenCV's overlay."""

from __future__ import annotations

import cv2
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
from onnxcam import Engine, overlay
from onnxcam_export import from_keras

LAYER = "block14_sepconv2_act"


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    model = keras.applications.Xception(weights=None)
    settle_keras(model, 2 * pictures((2, 299, 299, 3), seed=1) - 1)
    return model


@pytest.fixture(scope="module")
def exported(model):
    return from_keras(model, LAYER, score="probability", preprocess="tf")


@pytest.fixture(scope="module")
def engine(exported):
    return Engine(exported.SerializeToString())


@pytest.fixture(scope="module")
def image():
    return 2 * pictures((1, 299, 299, 3), seed=11) - 1


@pytest.fixture(scope="module")
def session(exported):
    return open_session(exported)


@pytest.mark.parametrize("index", [None, 0, 281])
def test_gradient_and_map_are_the_tutorials(model, session, engine, image, index):
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


def test_some_map_is_not_empty(engine, image):
    # The comparison above says little on empty maps only.
    assert engine.maps(image, -1).max() == 1


def test_overlay_is_opencv_s(engine, image):
    heat = engine.maps(image, -1)[0]
    picture = (255 * pictures((1, 427, 640, 3), seed=12)[0]).astype(np.uint8)
    enlarged = cv2.resize(heat, (640, 427))
    colored = cv2.applyColorMap(np.uint8(255 * enlarged), cv2.COLORMAP_JET)
    blended = cv2.addWeighted(picture[..., ::-1].copy(), 0.6, colored, 0.4, 0)
    found = overlay(heat, picture, alpha=0.4, colormap="jet")
    difference = np.abs(found.astype(int) - blended[..., ::-1].astype(int))
    assert difference.max() <= 2
