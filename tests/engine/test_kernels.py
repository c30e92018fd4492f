"""Every kernel as plain Python and compiled, against NumPy or OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from onnxcam import kernels

RANDOM = np.random.default_rng(7)


@pytest.fixture(params=["python", "compiled"])
def flavour(request):
    """Picks the plain function of a kernel or the compiled one."""
    return lambda kernel: kernel.py_func if request.param == "python" else kernel


@pytest.mark.parametrize("size", [(7, 7), (12, 20), (3, 5), (50, 31), (1, 1)])
@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("resize_map_bilinear", cv2.INTER_LINEAR),
        ("resize_map_bicubic", cv2.INTER_CUBIC),
    ],
)
def test_resize_of_a_map_is_opencvs(flavour, name, flag, size):
    source = RANDOM.random((7, 7), np.float32)
    out = np.empty(size, np.float32)
    flavour(getattr(kernels, name))(source, 0.0, 0.0, float(size[1]), float(size[0]), out)
    expected = cv2.resize(source, size[::-1], interpolation=flag)
    np.testing.assert_allclose(out, expected, atol=2e-5)


@pytest.mark.parametrize("name", ["resize_map_bilinear", "resize_map_bicubic"])
def test_resize_into_a_rectangle(flavour, name):
    source = RANDOM.random((4, 5), np.float32)
    inside = np.empty((12, 15), np.float32)
    flavour(getattr(kernels, name))(source, 0.0, 0.0, 15.0, 12.0, inside)
    out = np.full((20, 30), 99, np.float32)
    flavour(getattr(kernels, name))(source, 6.0, 3.0, 21.0, 15.0, out)
    expected = np.zeros((20, 30), np.float32)
    expected[3:15, 6:21] = inside
    np.testing.assert_allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize("size", [(9, 14), (40, 25), (5, 5)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("resize_picture_bilinear", cv2.INTER_LINEAR),
        ("resize_picture_bicubic", cv2.INTER_CUBIC),
    ],
)
def test_resize_of_a_picture_is_opencvs_within_one_level(flavour, name, flag, channels, size):
    source = RANDOM.integers(0, 256, (16, 12, channels), dtype=np.uint8)
    out = np.empty((*size, channels), np.uint8)
    flavour(getattr(kernels, name))(source, out)
    expected = cv2.resize(source, size[::-1], interpolation=flag).reshape(out.shape)
    assert np.abs(out.astype(int) - expected).max() <= 1


def test_colorize(flavour):
    table = RANDOM.integers(0, 256, (256, 3), dtype=np.uint8)
    values = RANDOM.uniform(-0.2, 1.2, (8, 9)).astype(np.float32)
    values[0, :4] = [0, 1, -3, 3]
    out = np.empty((8, 9, 3), np.uint8)
    flavour(kernels.colorize)(values, table, out)
    expected = table[(values.astype(float).clip(0, 1) * 255).astype(int)]
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_blend(flavour, alpha):
    picture, heat = RANDOM.integers(0, 256, (2, 6, 7, 3), dtype=np.uint8)
    out = np.empty((6, 7, 3), np.uint8)
    flavour(kernels.blend)(picture, heat, alpha, out)
    expected = (1 - alpha) * picture.astype(float) + alpha * heat.astype(float)
    assert np.abs(out - expected).max() <= 0.5 + 1e-9
