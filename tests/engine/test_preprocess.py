"""Preprocessing against torchvision, Keras, OpenCV and Pillow themselves."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from onnxcam.contract import Preprocessing, Resize
from onnxcam.errors import PictureError
from onnxcam.preprocess import fit, to_tensor
from onnxcam.presets import parse_preprocess

RANDOM = np.random.default_rng(5)


def picture(height: int, width: int) -> np.ndarray:
    """Smooth colours with some noise, so that a shift of half a pixel shows."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 3 + k) + np.cos(y / (4 + k)) for k in range(3)]
    noise = RANDOM.normal(scale=20, size=(height, width, 3))
    return (128 + 50 * np.stack(waves, axis=2) + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(300, 400), (400, 301), (97, 350), (256, 256), (640, 359)])
@pytest.mark.parametrize("side", [224, 299, 96])
def test_imagenet_is_torchvisions(shape, side):
    from helpers_torchvision import torchvision

    transforms = torchvision.transforms
    theirs = transforms.Compose(
        [
            transforms.Resize(round(side * 256 / 224)),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    source = picture(*shape)
    preprocess = parse_preprocess("imagenet", (side, side))
    fitted, _ = fit(source, preprocess)
    found = to_tensor([fitted], preprocess, "NCHW", np.float32)[0]
    np.testing.assert_allclose(found, theirs(Image.fromarray(source)).numpy(), atol=1e-6)


@pytest.mark.parametrize(("name", "filter_"), [("bicubic", "BICUBIC"), ("nearest", "NEAREST")])
def test_torchvisions_other_filters(name, filter_):
    from helpers_torchvision import torchvision

    transforms = torchvision.transforms
    mode = transforms.InterpolationMode[filter_]
    theirs = transforms.Compose([transforms.Resize(50, mode), transforms.CenterCrop((40, 48))])
    source = picture(77, 130)
    resize = Resize(mode="crop", shorter_side=50, filter=name)
    fitted, _ = fit(source, Preprocessing(size=(40, 48), resize=resize))
    np.testing.assert_array_equal(fitted, np.asarray(theirs(Image.fromarray(source))))


@pytest.mark.parametrize(("preset", "mode"), [("caffe", "caffe"), ("tf", "tf"), ("unit", None)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_kerass_modes(tmp_path, preset, mode, layout):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    from keras.applications.imagenet_utils import preprocess_input

    source = picture(90, 61)
    path = tmp_path / "a.png"
    Image.fromarray(source).save(path)
    loaded = keras.utils.img_to_array(keras.utils.load_img(path, target_size=(48, 64)))
    expected = loaded[None] / 255
    if mode:
        expected = preprocess_input(loaded[None].copy(), "channels_last", mode)
    preprocess = parse_preprocess(preset, (48, 64))
    fitted, seen = fit(source, preprocess)
    found = to_tensor([fitted], preprocess, layout, np.float32)
    if layout == "NCHW":
        expected = expected.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert seen == (0, 0, 61, 90)


@pytest.mark.parametrize("shape", [(30, 45), (100, 64), (48, 64)])
@pytest.mark.parametrize(
    ("name", "flag"), [("bilinear", cv2.INTER_LINEAR), ("bicubic", cv2.INTER_CUBIC)]
)
def test_without_antialias_as_opencv(shape, name, flag):
    source = picture(*shape)
    preprocess = Preprocessing(size=(48, 64), resize=Resize(filter=name, antialias=False))
    fitted, _ = fit(source, preprocess)
    expected = cv2.resize(source, (64, 48), interpolation=flag)
    assert np.abs(fitted.astype(int) - expected).max() <= 1


def test_grey_is_keras_greyscale(tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    source = picture(50, 40)
    path = tmp_path / "a.png"
    Image.fromarray(source).save(path)
    expected = keras.utils.img_to_array(
        keras.utils.load_img(path, color_mode="grayscale", target_size=(28, 28))
    )
    preprocess = parse_preprocess("unit", (28, 28), channels=1)
    fitted, _ = fit(source, preprocess)
    found = to_tensor([fitted], preprocess, "NHWC", np.float32)
    np.testing.assert_allclose(found[0], expected / 255, atol=1e-6)


def test_bgr_is_rgb_backwards():
    source = picture(20, 30)
    options = {"size": (8, 8), "scale": 1.0, "std": (1.0, 2.0, 4.0)}
    rgb, _ = fit(source, Preprocessing(color="RGB", **options))
    bgr, _ = fit(source, Preprocessing(color="BGR", **options))
    np.testing.assert_array_equal(bgr, rgb[..., ::-1])
    tensor = to_tensor([bgr], Preprocessing(color="BGR", **options), "NCHW", np.float32)
    np.testing.assert_allclose(tensor[0, 2], rgb[..., 0] / 4)


@pytest.mark.parametrize(
    ("dtype", "scale", "mean", "expected"),
    [
        ("uint8", 1.0, 0.0, [0, 100, 255]),
        ("int8", 1.0, 128.0, [-128, -28, 127]),
        ("uint8", 2.0, 0.0, [0, 200, 255]),
        ("float16", 1 / 255, 0.0, [0, 100 / 255, 1]),
        ("float64", 1 / 255, 0.0, [0, 100 / 255, 1]),
    ],
)
def test_dtypes(dtype, scale, mean, expected):
    source = np.repeat(np.array([[0, 100, 255]], np.uint8)[..., None], 3, axis=2)
    preprocess = Preprocessing(size=(1, 3), scale=scale, mean=(mean,))
    tensor = to_tensor([source], preprocess, "NHWC", dtype)
    assert tensor.dtype == dtype
    np.testing.assert_allclose(tensor[0, 0, :, 1], np.array(expected, dtype))


def test_the_rectangle_is_what_the_crop_shows():
    """A single bright block, found in the crop, lies where the rectangle says."""
    source = np.zeros((120, 300, 3), np.uint8)
    source[40:80, 130:190] = 255
    resize = Resize(mode="crop", shorter_side=60)
    fitted, seen = fit(source, Preprocessing(size=(50, 50), resize=resize))
    ys, xs = np.nonzero(fitted[..., 0] > 127)
    to_x, to_y = (seen.right - seen.left) / 50, (seen.bottom - seen.top) / 50
    assert seen.left + xs.min() * to_x == pytest.approx(130, abs=1)
    assert seen.left + (xs.max() + 1) * to_x == pytest.approx(190, abs=1)
    assert seen.top + ys.min() * to_y == pytest.approx(40, abs=1)
    assert seen.top + (ys.max() + 1) * to_y == pytest.approx(80, abs=1)


def test_a_sliver_does_not_fill_the_memory():
    sliver = np.zeros((1, 60_000, 3), np.uint8)
    with pytest.raises(PictureError, match="60000x1 pixels: too narrow"):
        fit(sliver, parse_preprocess("imagenet"))
