"""Preprocessing against torchvision, Keras, OpenCV and Pillow themselves."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from onnxcam.buffers import Buffers
from onnxcam.contract import Preprocessing, Resize
from onnxcam.errors import PictureError
from onnxcam.preprocess import Preparation
from onnxcam.presets import parse_preprocess

RANDOM = np.random.default_rng(5)


def picture(height: int, width: int) -> np.ndarray:
    """Smooth colours with some noise, so that a shift of half a pixel shows."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 3 + k) + np.cos(y / (4 + k)) for k in range(3)]
    noise = RANDOM.normal(scale=20, size=(height, width, 3))
    return (128 + 50 * np.stack(waves, axis=2) + noise).clip(0, 255).astype(np.uint8)


def prepared(source, preprocess, layout="NHWC", dtype=np.uint8, **options):
    """The tensor of one picture, and the rectangle it shows; by default its plain pixels."""
    preparation = Preparation(preprocess, layout, dtype)
    out = np.empty(preparation.shape, dtype)
    return out, preparation.fill(source, out, **options)


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
    found, _ = prepared(source, preprocess, "NCHW", np.float32)
    np.testing.assert_allclose(found, theirs(Image.fromarray(source)).numpy(), atol=1e-6)


@pytest.mark.parametrize(("name", "filter_"), [("bicubic", "BICUBIC"), ("nearest", "NEAREST")])
def test_torchvisions_other_filters(name, filter_):
    from helpers_torchvision import torchvision

    transforms = torchvision.transforms
    mode = transforms.InterpolationMode[filter_]
    theirs = transforms.Compose([transforms.Resize(50, mode), transforms.CenterCrop((40, 48))])
    source = picture(77, 130)
    resize = Resize(mode="crop", shorter_side=50, filter=name)
    fitted, _ = prepared(source, Preprocessing(size=(40, 48), resize=resize))
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
    found, seen = prepared(source, preprocess, layout, np.float32)
    if layout == "NCHW":
        expected = expected.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected[0], rtol=1e-5, atol=1e-5)
    assert seen == (0, 0, 61, 90)


@pytest.mark.parametrize("shape", [(30, 45), (100, 64), (48, 64)])
@pytest.mark.parametrize(
    ("name", "flag"), [("bilinear", cv2.INTER_LINEAR), ("bicubic", cv2.INTER_CUBIC)]
)
def test_without_antialias_as_opencv(shape, name, flag):
    source = picture(*shape)
    preprocess = Preprocessing(size=(48, 64), resize=Resize(filter=name, antialias=False))
    fitted, _ = prepared(source, preprocess)
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
    found, _ = prepared(source, preprocess, "NHWC", np.float32)
    np.testing.assert_allclose(found, expected / 255, atol=1e-6)
    backwards, _ = prepared(source[..., ::-1], preprocess, "NHWC", np.float32, bgr=True)
    np.testing.assert_array_equal(backwards, found)


def test_bgr_is_rgb_backwards():
    source = picture(20, 30)
    options = {"size": (8, 8), "scale": 1.0, "std": (1.0, 2.0, 4.0)}
    pixels, _ = prepared(source, Preprocessing(size=(8, 8)))
    for layout in ("NCHW", "NHWC"):
        tensor, _ = prepared(source, Preprocessing(color="BGR", **options), layout, np.float32)
        channels_last = tensor if layout == "NHWC" else tensor.transpose(1, 2, 0)
        np.testing.assert_allclose(channels_last, pixels[..., ::-1] / np.array([1.0, 2, 4]))
        # A frame of OpenCV's, which is BGR itself.
        frame = np.ascontiguousarray(source[..., ::-1])
        for color in ("BGR", "RGB"):
            preprocess = Preprocessing(color=color, **options)
            expected, _ = prepared(source, preprocess, layout, np.float32)
            found, _ = prepared(frame, preprocess, layout, np.float32, bgr=True)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("dtype", "scale", "mean", "expected"),
    [
        ("uint8", 1.0, 0.0, [0, 100, 255]),
        ("int8", 1.0, 128.0, [-128, -28, 127]),
        ("uint8", 2.0, 0.0, [0, 200, 255]),
        ("int32", 1.0, 0.0, [0, 100, 255]),
        ("float16", 1 / 255, 0.0, [0, 100 / 255, 1]),
        ("float64", 1 / 255, 0.0, [0, 100 / 255, 1]),
    ],
)
def test_dtypes(dtype, scale, mean, expected):
    source = np.repeat(np.array([[0, 100, 255]], np.uint8)[..., None], 3, axis=2)
    preprocess = Preprocessing(size=(1, 3), scale=scale, mean=(mean,))
    for layout in ("NHWC", "NCHW"):
        tensor, _ = prepared(source, preprocess, layout, dtype)
        row = tensor[0, :, 1] if layout == "NHWC" else tensor[1, 0]
        np.testing.assert_allclose(row, np.array(expected, dtype))


def test_the_rectangle_is_what_the_crop_shows():
    """A single bright block, found in the crop, lies where the rectangle says."""
    source = np.zeros((120, 300, 3), np.uint8)
    source[40:80, 130:190] = 255
    resize = Resize(mode="crop", shorter_side=60)
    fitted, seen = prepared(source, Preprocessing(size=(50, 50), resize=resize))
    ys, xs = np.nonzero(fitted[..., 0] > 127)
    to_x, to_y = (seen.right - seen.left) / 50, (seen.bottom - seen.top) / 50
    assert seen.left + xs.min() * to_x == pytest.approx(130, abs=1)
    assert seen.left + (xs.max() + 1) * to_x == pytest.approx(190, abs=1)
    assert seen.top + ys.min() * to_y == pytest.approx(40, abs=1)
    assert seen.top + (ys.max() + 1) * to_y == pytest.approx(80, abs=1)


def test_a_sliver_does_not_fill_the_memory():
    """Its resized form has 15 million columns; only the crop's are computed."""
    sliver = picture(1, 60_000)
    found, seen = prepared(sliver, parse_preprocess("imagenet"), "NCHW", np.float32)
    assert np.isfinite(found).all()
    assert seen.right - seen.left < 1
    resize = Resize(mode="crop", shorter_side=256, antialias=False)
    with pytest.raises(PictureError, match="60000x1 pixels: too narrow"):
        prepared(sliver, Preprocessing(size=(224, 224), resize=resize))


def test_a_hair_is_refused():
    with pytest.raises(PictureError, match="4000000x1 pixels: too narrow"):
        prepared(np.zeros((1, 4_000_000, 3), np.uint8), parse_preprocess("imagenet"))


def columns_first(image, width, height, how) -> np.ndarray:
    """Pillow's resize in the order of all its versions up to 12.

    Pillow 13 takes the rows first where a picture shrinks more in height than in width; rounded
    to bytes in between, that is up to a level apart.
    """
    return np.asarray(image.resize((width, image.height), how).resize((width, height), how))


def test_within_one_level_of_whatever_pillow_does():
    """Bicubic overshoots and is clipped between the passes: there Pillow 13 is up to three levels
    from Pillow 12 where it takes the rows first, and so from us."""
    for shape in [(300, 400), (400, 300), (900, 60), (60, 900), (40, 31), (224, 300)]:
        for target in [(224, 224), (32, 96), (96, 32), (7, 300)]:
            source = picture(*shape)
            found, _ = prepared(source, Preprocessing(size=target))
            how = Image.Resampling.BILINEAR
            expected = np.asarray(Image.fromarray(source).resize(target[::-1], how))
            assert np.abs(found.astype(int) - expected).max() <= 1


SIDES = [1, 2, 3, 7, 8, 9, 16, 31, 100, 257]


@pytest.mark.parametrize("filter_", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("target", [(1, 1), (5, 3), (16, 24), (33, 50), (224, 131)])
def test_every_byte_is_pillows(filter_, target):
    """Up and down, one axis up and the other down, one pixel wide, the same size."""
    random = np.random.default_rng(11)
    preprocess = Preprocessing(size=target, resize=Resize(filter=filter_))
    gray = Preprocessing(size=target, color="GRAY", resize=Resize(filter=filter_))
    sizes = [(h, w) for h in SIDES for w in random.permutation(SIDES)[:3]] + [target]
    how = Image.Resampling[filter_.upper()]
    for height, width in sizes:
        # Extremes, so that bicubic overshoots, beside all values.
        source = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        source[random.random(source.shape) < 0.3] = 255
        source[random.random(source.shape) < 0.3] = 0
        image = Image.fromarray(source)
        expected = columns_first(image, target[1], target[0], how)
        found, _ = prepared(source, preprocess)
        np.testing.assert_array_equal(found, expected, err_msg=f"{height}x{width}")
        expected = columns_first(image.convert("L"), target[1], target[0], how)
        found, _ = prepared(source, gray)
        np.testing.assert_array_equal(found[..., 0], expected, err_msg=f"{height}x{width}")


@pytest.mark.parametrize("filter_", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(61, 97), (97, 61), (40, 300), (5, 4)])
def test_every_byte_of_a_crop_is_pillows(filter_, shape):
    """Only the crop is computed; it is the same as resizing all and then cropping."""
    source = picture(*shape)
    resize = Resize(mode="crop", shorter_side=48, filter=filter_)
    found, _ = prepared(source, Preprocessing(size=(32, 40), resize=resize))
    longer = int(48 * max(shape) / min(shape))
    full_h, full_w = (48, longer) if shape[0] < shape[1] else (longer, 48)
    how = Image.Resampling[filter_.upper()]
    whole = columns_first(Image.fromarray(source), full_w, full_h, how)
    top, left = round((full_h - 32) / 2), round((full_w - 40) / 2)
    np.testing.assert_array_equal(found, whole[top : top + 32, left : left + 40])


@pytest.mark.parametrize("filter_", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("width", [28, 29, 30, 31])
def test_every_byte_is_pillows_by_whatever_number_of_taps(filter_, width):
    """1 to 17 pairs of columns and of rows; widths that are multiples of four, and not."""
    preprocess = Preprocessing(size=(23, width), resize=Resize(filter=filter_))
    gray = Preprocessing(size=(23, width), color="GRAY", resize=Resize(filter=filter_))
    how = Image.Resampling[filter_.upper()]
    for times in (0.4, 1.0, 1.4, 1.9, 2.4, 2.9, 3.4, 4.4, 5.3, 8.2):
        for height in (round(23 * times), round(40 / times) | 1):
            source = RANDOM.integers(0, 2, (height, round(width * times), 3), np.uint8) * 255
            image = Image.fromarray(source)
            expected = columns_first(image, width, 23, how)
            found, _ = prepared(source, preprocess)
            np.testing.assert_array_equal(found, expected, err_msg=str(source.shape))
            found, _ = prepared(source, preprocess, "NCHW", np.float32, bgr=True)
            found = found[::-1].transpose(1, 2, 0)
            np.testing.assert_array_equal(found, expected, err_msg=str(source.shape))
            expected = columns_first(image.convert("L"), width, 23, how)
            found, _ = prepared(source, gray)
            np.testing.assert_array_equal(found[..., 0], expected, err_msg=str(source.shape))


def test_a_large_photograph_is_pillows():
    source = np.random.default_rng(3).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    found, _ = prepared(source, Preprocessing(size=(224, 224)))
    expected = Image.fromarray(source).resize((224, 224), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_buffers_are_used_again_and_change_nothing():
    place = Buffers()
    preparation = Preparation(parse_preprocess("imagenet", (32, 32)), "NCHW", np.float32)
    for shape in [(50, 60), (50, 60), (20, 90), (50, 60)]:
        source = picture(*shape)
        fresh, reused = np.empty((2, 3, 32, 32), np.float32)
        assert preparation.fill(source, fresh) == preparation.fill(source, reused, place=place)
        np.testing.assert_array_equal(fresh, reused)


def test_nothing_is_written_beside_the_tensor():
    for shape in [(30, 45), (3, 2), (100, 7)]:
        whole = np.full(2 * 16 + 3 * 9 * 11, 7.0, np.float32)
        out = whole[16:-16].reshape(3, 9, 11)
        Preparation(Preprocessing(size=(9, 11)), "NCHW", np.float32).fill(picture(*shape), out)
        assert (whole[:16] == 7).all()
        assert (whole[-16:] == 7).all()


_BEFORE_NOTHING = """
import ctypes
import mmap
import numpy as np
from onnxcam.contract import Preprocessing, Resize
from onnxcam.preprocess import Preparation

ROOM = 1 << 16
memory = mmap.mmap(-1, ROOM + mmap.PAGESIZE)
whole = np.frombuffer(memory, np.uint8)
system = ctypes.CDLL(None, use_errno=True)
nothing = ctypes.c_void_p(whole.ctypes.data + ROOM)
assert system.mprotect(nothing, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
for filter_ in ("nearest", "bilinear", "bicubic"):
    preprocess = Preprocessing(size=(9, 11), resize=Resize(filter=filter_))
    preparation = Preparation(preprocess, "NHWC", np.uint8)
    for height, width in [(1, 8), (2, 8), (3, 9), (30, 23), (31, 33), (40, 100), (90, 240)]:
        size = height * width * 3
        source = whole[ROOM - size : ROOM].reshape(height, width, 3)
        source[:] = np.arange(size).reshape(source.shape) % 251
        expected, found = np.empty((2, *preparation.shape), np.uint8)
        preparation.fill(source.copy(), expected)
        preparation.fill(source, found)
        np.testing.assert_array_equal(found, expected)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the system's C library")
def test_nothing_behind_the_picture_is_read():
    """Rows are read in blocks; behind the last one is memory that can't be read."""
    subprocess.run([sys.executable, "-c", _BEFORE_NOTHING], check=True)


_AS_PYTHON = """
import sys
import numpy as np
from onnxcam.contract import Preprocessing, Resize
from onnxcam.preprocess import Preparation

data = np.load(sys.argv[1])
for filter_ in ("nearest", "bilinear", "bicubic"):
    for color in ("BGR", "GRAY"):
        resize = Resize(filter=filter_)
        preprocess = Preprocessing(size=(5, 9), color=color, std=(3.0,), resize=resize)
        preparation = Preparation(preprocess, "NCHW", np.float32)
        out = np.empty(preparation.shape, np.float32)
        preparation.fill(data["source"], out)
        np.testing.assert_array_equal(out, data[filter_ + color])
"""


def test_as_plain_python(tmp_path):
    source = picture(13, 21)
    found = {"source": source}
    for filter_ in ("nearest", "bilinear", "bicubic"):
        for color in ("BGR", "GRAY"):
            options = {"color": color, "std": (3.0,), "resize": Resize(filter=filter_)}
            preprocess = Preprocessing(size=(5, 9), **options)
            found[filter_ + color] = prepared(source, preprocess, "NCHW", np.float32)[0]
    np.savez(tmp_path / "in.npz", **found)
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "ONNXCAM_KERNELS": "jit"}
    command = [sys.executable, "-c", _AS_PYTHON, tmp_path / "in.npz"]
    subprocess.run(command, check=True, env=environment)
