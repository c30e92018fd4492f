"""The overlay against the libraries whose conventions it follows."""

from __future__ import annotations

import os

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image

from onnxcam import overlay
from onnxcam.colormaps import find_colormap
from onnxcam.errors import InputError, MethodError, PictureError
from onnxcam.painting import PRESETS

RANDOM = np.random.default_rng(11)
SIZES = [(64, 64), (97, 150), (300, 200), (7, 7)]


def heat(h: int = 7, w: int = 7) -> np.ndarray:
    values = np.maximum(RANDOM.normal(size=(h, w)), 0).astype(np.float32)
    return values / values.max()


def photo(size) -> np.ndarray:
    return RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8)


def levels(a, b) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (14, 14)])
def test_default_is_opencvs_tutorial(size, shape):
    values, picture = heat(*shape), photo(size)
    large = cv2.resize(values, size[::-1])
    jet = cv2.applyColorMap(np.uint8(255 * large), cv2.COLORMAP_JET)[..., ::-1]
    expected = cv2.addWeighted(picture, 0.6, np.ascontiguousarray(jet), 0.4, 0)
    assert levels(overlay(values, picture), expected) <= 2


def test_no_renormalisation():
    picture = photo((8, 8))
    faint = np.full((2, 2), 0.25, np.float32)
    expected = 0.6 * picture + 0.4 * find_colormap("jet")[63]
    assert levels(overlay(faint, picture), np.rint(expected)) <= 1
    np.testing.assert_array_equal(overlay(faint * 40, picture), overlay(faint * 4, picture))


def test_alpha_colormap_and_out():
    picture, values = photo((12, 10)), heat()
    np.testing.assert_array_equal(overlay(values, picture, alpha=0), picture)
    expected = find_colormap("viridis")[(255 * cv2.resize(values, (10, 12))).astype(int)]
    assert levels(overlay(values, picture, alpha=1, colormap="viridis"), expected) <= 4
    expected = overlay(values, picture)
    out = np.empty_like(picture)
    assert overlay(values, picture, out=out) is out
    np.testing.assert_array_equal(out, expected)
    overlay(values, picture, out=picture)
    np.testing.assert_array_equal(picture, expected)


def keras_tutorial(values, picture, alpha):
    """The `save_and_display_gradcam` of Keras' Grad-CAM example, in its own calls."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    jet = matplotlib.colormaps["jet"](np.arange(256))[:, :3]
    colored = keras.utils.array_to_img(jet[np.uint8(255 * values)])
    colored = colored.resize((picture.shape[1], picture.shape[0]))
    mixed = keras.utils.img_to_array(colored) * alpha + picture
    return np.asarray(keras.utils.array_to_img(mixed))


@pytest.mark.parametrize("size", SIZES)
def test_keras_additive(size):
    values, picture = heat(10, 10), photo(size)
    found = overlay(values, picture, preset="keras-additive")
    assert levels(found, keras_tutorial(values, picture, 0.4)) <= 1


def test_keras_additive_on_a_grey_float_picture():
    values = heat(26, 26)
    picture = RANDOM.random((28, 28, 1)).astype(np.float32)
    expected = keras_tutorial(values, picture, 0.01)
    for each in (picture, picture[..., 0]):
        found = overlay(values, each, alpha=0.01, preset="keras-additive")
        assert levels(found, expected) <= 1


def test_keras_additive_of_an_empty_map():
    values, picture = np.zeros((4, 4), np.float32), photo((9, 9))
    found = overlay(values, picture, preset="keras-additive")
    assert levels(found, keras_tutorial(values, picture, 0.4)) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_signed(size):
    values, picture = RANDOM.normal(size=(14, 14)).astype(np.float32), photo(size)
    zoomed = cv2.resize(values, size[::-1], interpolation=cv2.INTER_CUBIC)
    scaled = (zoomed - zoomed.min()) / np.ptp(zoomed)
    colors = matplotlib.colormaps["jet"](scaled)[..., :3] * 255
    # one step of jet, 4 levels, halved, and rounding
    assert levels(overlay(values, picture, preset="signed"), 0.5 * picture + 0.5 * colors) <= 3


def test_signed_of_a_constant_map_is_one_colour():
    found = overlay(np.full((3, 3), -2.0), np.zeros((6, 6, 3), np.uint8), preset="signed")
    assert len(np.unique(found.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("size", SIZES)
def test_pytorch_grad_cam(size):
    """scale_cam_image (before and after enlarging) and show_cam_on_image, written out."""
    values, picture = heat(), photo(size)
    large = cv2.resize((values - values.min()) / (1e-7 + np.ptp(values)), size[::-1])
    large = (large - large.min()) / (1e-7 + np.ptp(large))
    jet = cv2.applyColorMap(np.uint8(255 * large), cv2.COLORMAP_JET)[..., ::-1] / 255
    mixed = 0.5 * jet + 0.5 * (picture / 255)
    expected = np.uint8(255 * mixed / mixed.max())
    assert levels(overlay(values, picture, preset="pytorch-grad-cam"), expected) <= 3


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_rectangle(preset):
    """Inside of the rectangle as if it were the whole picture, outside the colour of zero."""
    values, black = heat(6, 6) - (0.2 if preset == "signed" else 0), np.zeros((40, 60, 3), "u1")
    found = overlay(values, black, preset=preset, rectangle=(15, 5, 45, 35))
    alone = overlay(values, black[5:35, 15:45], preset=preset)
    assert levels(found[5:35, 15:45], alone) <= 1
    outside = np.ones((40, 60), bool)
    outside[5:35, 15:45] = False
    assert len(np.unique(found[outside], axis=0)) == 1


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_a_rectangle_smaller_than_a_pixel(preset):
    found = overlay(heat(), photo((5, 5)), preset=preset, rectangle=(2.1, 2.1, 2.2, 2.2))
    assert found.shape == (5, 5, 3)


def test_takes_files_and_pil_images(tmp_path):
    picture, values = photo((9, 8)), heat()
    Image.fromarray(picture).save(tmp_path / "a.png")
    expected = overlay(values, picture)
    np.testing.assert_array_equal(overlay(values, tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(overlay(values, Image.fromarray(picture)), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_map(bad):
    values = heat()
    values[2, 3] = bad
    with pytest.raises(InputError, match="NaN or infinite"):
        overlay(values, photo((9, 9)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"heatmap": np.zeros((1, 7, 7), np.float32)}, InputError, r"\[1, 7, 7\]"),
        ({"heatmap": np.zeros((0, 7), np.float32)}, InputError, r"\[0, 7\]"),
        ({"heatmap": np.zeros((7, 7), np.uint8)}, InputError, "expected float32.*uint8"),
        ({"alpha": 1.5}, InputError, "alpha.*0 to 1"),
        ({"alpha": -0.1}, InputError, "alpha"),
        ({"alpha": float("nan")}, InputError, "alpha"),
        ({"alpha": "x"}, InputError, "alpha"),
        ({"preset": "keras"}, MethodError, "preset 'keras' is unknown; known are keras-additive"),
        ({"colormap": "rainbow"}, MethodError, "rainbow"),
        ({"picture": np.zeros((9, 9, 3), np.float32)}, PictureError, "uint8"),
        ({"out": np.zeros((9, 9), np.uint8)}, InputError, r"out: expected uint8 \[9, 9, 3\]"),
        ({"out": np.zeros((9, 9, 3), np.float32)}, InputError, "out"),
        ({"out": np.zeros((9, 18, 3), np.uint8)[:, ::2]}, InputError, "contiguous"),
        ({"rectangle": (3, 3, 3, 5)}, InputError, "left < right"),
        (
            {"picture": np.zeros((9, 9, 4), np.float32), "preset": "keras-additive"},
            InputError,
            r"\[9, 9, 4\]",
        ),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        overlay(**({"heatmap": heat(), "picture": photo((9, 9))} | arguments))
