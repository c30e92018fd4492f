"""Tutorial system 4: Keras VGG19 from a file on the command line, signed map, cubic zoom."""

from __future__ import annotations

import cv2
import keras
import matplotlib
import numpy as np
import onnx
import pytest

from helpers_networks import (
    gradcam_channels_last,
    keras_tutorial,
    open_session,
    pictures,
    relative_error,
    run_explaining,
    settle_keras,
)
from onnxcam import Engine, overlay
from onnxcam.cli import main
from onnxcam.figure import side_by_side

TARGETS = (None, 0, 1)  # None: the highest score
LAYER = "block5_conv4"  # few ReLUs after it that rounding could flip on another machine


@pytest.fixture(scope="module")
def image():
    raw = 255 * pictures((1, 224, 224, 3), seed=41)
    return np.asarray(keras.applications.vgg19.preprocess_input(raw), np.float32)


@pytest.fixture(scope="module")
def tutorial(image, tmp_path_factory):
    """Class, activation and gradient for every target, and the model that the command wrote."""
    folder = tmp_path_factory.mktemp("vgg19")
    keras.utils.set_random_seed(4)
    model = keras.applications.VGG19(weights=None)
    settle_keras(model, image, gain=2**0.5)
    answers = [keras_tutorial(model, LAYER, image, target) for target in TARGETS]
    model.save(folder / "vgg19.keras")
    del model
    arguments = ["export", "keras", str(folder / "vgg19.keras"), "--layer", LAYER]
    code = main([*arguments, "--score", "probability", "-o", str(folder / "vgg19.onnx")])
    assert code == 0
    exported = onnx.load(folder / "vgg19.onnx")
    (folder / "vgg19.keras").unlink()
    (folder / "vgg19.onnx").unlink()
    return answers, exported


def test_gradient_and_signed_map_are_the_tutorials(tutorial, image):
    answers, exported = tutorial
    session, engine = open_session(exported), Engine(exported.SerializeToString())
    lowest = []
    for target, (chosen, activation, gradient) in zip(TARGETS, answers, strict=True):
        asked = -1 if target is None else target
        scores, found_activation, found_gradient = run_explaining(session, image, asked)
        if target is None:
            assert int(scores.argmax()) == chosen
        assert relative_error(found_activation, activation.transpose(2, 0, 1)) < 1e-4
        assert relative_error(found_gradient, gradient.transpose(2, 0, 1)) < 1e-4
        found = engine.maps(image, asked, signed=True)[0]
        assert relative_error(found, gradcam_channels_last(activation, gradient)) < 1e-4
        lowest.append(found.min())
    assert min(lowest) < 0  # no ReLU: the sign is what this tutorial shows


def test_signed_overlay_beside_the_picture(tutorial):
    (_, activation, gradient) = tutorial[0][0]
    raw = gradcam_channels_last(activation, gradient).astype(np.float32)
    picture = (255 * pictures((1, 224, 224, 3), seed=42)[0]).astype(np.uint8)
    # The tutorial's imshow: colours from the map's own minimum to its own maximum.
    enlarged = cv2.resize(raw, (224, 224), interpolation=cv2.INTER_CUBIC)
    scaled = (enlarged - enlarged.min()) / (enlarged.max() - enlarged.min())
    colored = 255 * matplotlib.colormaps["jet"](scaled)[..., :3]
    expected = 0.5 * picture + 0.5 * colored
    found = overlay(raw, picture, preset="signed")
    difference = np.abs(found - expected)
    # Bicubic kernels differ in their parameter (OpenCV -0.75, Pillow -0.5), most where the map
    # bends: the bulk has to agree, and no pixel may be of another colour.
    assert np.median(difference) <= 4
    assert np.quantile(difference, 0.99) <= 40
    figure = np.asarray(side_by_side(picture, found, "n01440764 tench"))
    assert figure.shape[1] >= 2 * 224
    assert figure.shape[0] >= 224
