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
from onnxcam.painting import BLENDS, PRESETS

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


def enlarged(values, picture, flag=cv2.INTER_LINEAR):
    large = cv2.resize(values, picture.shape[1::-1], interpolation=flag)
    return large.astype(float).clip(0, 1)[..., None]


def test_blends():
    """Against one line of NumPy each; gray has no steps that would blur the comparison."""
    values, picture = heat(), photo((60, 80))
    m = enlarged(values, picture)
    gray = 255 * m
    expected = {
        "alpha": 0.6 * picture + 0.4 * gray,
        "additive": np.minimum(picture + 0.4 * gray, 255),
        "map-alpha": (1 - 0.7 * m) * picture + 0.7 * m * gray,
        "heat": gray + 0 * picture,
    }
    for blend, each in expected.items():
        found = overlay(values, picture, colormap="gray", blend=blend)
        assert np.abs(found - each).max() <= (2 if blend == "map-alpha" else 1.5)
    assert set(expected) | {"contours"} == set(BLENDS)


def test_map_alpha_leaves_the_picture_where_the_map_is_zero():
    values, picture = np.zeros((7, 7), np.float32), photo((70, 70))
    values[3, 3] = 1
    found = overlay(values, picture, blend="map-alpha")
    untouched = (enlarged(values, picture) * 255 < 1)[..., 0]
    np.testing.assert_array_equal(found[untouched], picture[untouched])
    assert (found[~untouched] != picture[~untouched]).any(axis=1).mean() > 0.8


def test_bicubic():
    values, picture = heat(), photo((60, 80))
    found = overlay(values, picture, colormap="gray", blend="heat", interpolation="bicubic")
    assert np.abs(found - 255 * enlarged(values, picture, cv2.INTER_CUBIC)).max() <= 1.1


def test_contours_options():
    values, black = heat(), np.zeros((90, 90, 3), np.uint8)
    lines = overlay(values, black, blend="contours", levels=[0.5], antialias=False)
    assert {tuple(each) for each in lines.reshape(-1, 3)} == {
        (0, 0, 0),
        tuple(find_colormap("jet")[127]),
    }
    thick = overlay(values, black, blend="contours", levels=0.5, line_width=5, antialias=False)
    assert 2 < thick.any(axis=2).sum() / lines.any(axis=2).sum() < 6
    usual = overlay(values, black, blend="contours", antialias=False)
    colors = {tuple(find_colormap("jet")[int(255 * level)]) for level in (0.25, 0.5, 0.75)}
    assert {tuple(each) for each in usual.reshape(-1, 3)} == {(0, 0, 0), *colors}
    faint = overlay(values, black, 0.5, blend="contours", antialias=False)
    assert levels(faint, usual / 2) <= 1


@pytest.mark.parametrize("blend", BLENDS)
def test_gray_rgba_and_bgr_pictures(blend):
    values, picture = heat(), photo((33, 47))
    gray = np.ascontiguousarray(picture[..., 0])
    expected = overlay(values, gray[..., None].repeat(3, axis=2), blend=blend)
    for each in (gray, gray[..., None]):
        assert levels(overlay(values, each, blend=blend), expected) <= 1

    expected = overlay(values, picture, blend=blend)
    rgba = np.dstack([picture, gray])
    found = overlay(values, rgba, blend=blend, out=np.empty_like(rgba))
    assert levels(found[..., :3], expected) <= 2  # a quarter of JET's steps apart
    np.testing.assert_array_equal(found[..., 3], gray)
    over_white = np.asarray(Image.alpha_composite(
        Image.new("RGBA", (47, 33), "white"), Image.fromarray(rgba)
    ).convert("RGB"))  # fmt: skip
    np.testing.assert_array_equal(
        overlay(values, rgba, blend=blend), overlay(values, over_white, blend=blend)
    )

    bgr = np.ascontiguousarray(picture[..., ::-1])
    np.testing.assert_array_equal(overlay(values, bgr, blend=blend, bgr=True)[..., ::-1], expected)


@pytest.mark.parametrize("colormap", ["jet", "viridis"])
@pytest.mark.parametrize("shape", [(24, 31, 3), (24, 31, 4), (24, 31)])
def test_rows_apart(colormap, shape):
    """Views of larger pictures, read and written without a copy and nothing beside them."""
    values, channels = heat(), shape[2:]
    large = RANDOM.integers(0, 256, (40, 50, *channels), dtype=np.uint8)
    around = np.full((40, 50, 4 if channels == (4,) else 3), 9, np.uint8)
    picture, out = large[5:29, 7:38], around[5:29, 7:38]
    before = large.copy()
    tight = np.ascontiguousarray(picture)
    expected = np.empty(out.shape, np.uint8)
    overlay(values, tight, colormap=colormap, out=expected)
    assert overlay(values, picture, colormap=colormap, out=out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(large, before)
    out[...] = 9
    assert (around == 9).all()


def test_other_orders_of_memory_are_copied():
    values, picture = heat(), photo((24, 31))
    expected = overlay(values, picture)
    for each in (np.asfortranarray(picture), picture[::-1].copy()[::-1], picture[:, ::-1].copy()):
        view = each if each.shape == picture.shape and (each == picture).all() else each[:, ::-1]
        np.testing.assert_array_equal(overlay(values, view), expected)


@pytest.mark.parametrize("shift", [0, 1, 3, 60])
@pytest.mark.parametrize("colormap", ["jet", "viridis"])
def test_memory_shared_by_picture_and_out(colormap, shift):
    values, memory = heat(), photo((1, 5000)).reshape(-1)
    picture = memory[100 : 100 + 24 * 31 * 3].reshape(24, 31, 3)
    out = memory[100 + shift : 100 + shift + 24 * 31 * 3].reshape(24, 31, 3)
    expected = overlay(values, picture.copy(), colormap=colormap)
    overlay(values, picture, colormap=colormap, out=out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("options", [{}, {"colormap": "turbo"}, {"blend": "contours"}])
def test_threads_change_nothing(options):
    values, picture = heat(9, 9), photo((733, 1001))
    expected = overlay(values, picture, **options)
    for threads in (2, 3):
        found = overlay(values, picture, threads=threads, **options)
        np.testing.assert_array_equal(found, expected)


def test_diverging():
    """Zero in the middle of the colormap, the largest magnitude at an end."""
    values, picture = np.array([[-2.0, 0.0, 1.0]]), np.zeros((4, 3, 3), np.uint8)
    found = overlay(values, picture, 1.0, preset="diverging")
    expected = find_colormap("coolwarm")[[0, 127, 191]]
    assert levels(found, expected[None]) == 0
    outside = overlay(values, photo((4, 9)), 1.0, preset="diverging", rectangle=(0, 0, 3, 4))
    assert (outside[:, 3:] == expected[1]).all()
    zero = overlay(np.zeros((3, 3)), picture, 1.0, preset="diverging")
    assert (zero == expected[1]).all()
    photograph = photo((20, 30))
    found = overlay(np.array([[0.0, 1.0]]), photograph, preset="diverging", blend="map-alpha")
    np.testing.assert_array_equal(found[:, :7], photograph[:, :7])
    lines = overlay(values, photograph, preset="diverging", blend="contours", levels=[-0.5])
    assert (lines != photograph).any()


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
        ({"out": np.zeros((9, 9, 3), np.uint8)[::-1]}, InputError, "contiguous"),
        ({"out": np.zeros((9, 9, 4), np.uint8)}, InputError, r"out: expected uint8 \[9, 9, 3\]"),
        ({"out": np.broadcast_to(np.uint8(0), (9, 9, 3))}, InputError, "out"),
        ({"blend": "multiply"}, MethodError, "blend 'multiply' is unknown; known are alpha"),
        ({"interpolation": "nearest"}, MethodError, "interpolation 'nearest' is unknown"),
        ({"blend": "heat", "alpha": 0.5}, MethodError, "leave out alpha"),
        ({"levels": [0.5]}, MethodError, "leave out levels"),
        ({"preset": "signed", "blend": "alpha"}, MethodError, "leave out blend"),
        ({"preset": "keras-additive", "bgr": True}, MethodError, "leave out bgr"),
        ({"picture": Image.new("RGB", (9, 9)), "bgr": True}, MethodError, "bgr=True is for arrays"),
        ({"blend": "contours", "levels": []}, InputError, "levels: expected numbers between 0 and"),
        ({"blend": "contours", "levels": [0.5, 1.0]}, InputError, "levels"),
        ({"blend": "contours", "levels": [float("nan")]}, InputError, "levels"),
        ({"blend": "contours", "levels": "many"}, InputError, "levels"),
        ({"line_width": 0}, InputError, "line_width: expected a number"),
        ({"threads": 0}, InputError, "threads: expected a whole number of at least 1, got 0"),
        ({"threads": True}, InputError, "threads"),
        ({"rectangle": (0, 0, float("inf"), 5)}, InputError, "rectangle"),
        ({"rectangle": (0, 0, float("nan"), 5)}, InputError, "rectangle"),
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
