"""The taps of a resize, as Python and compiled, against the weights that Pillow itself uses."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from helpers_kernels import as_python
from onnxcam import kernels
from onnxcam.contract import FILTERS

ONE = 1 << 22
SIZES = [(8, 4), (4, 8), (9, 5), (5, 9), (1, 7), (7, 1), (60, 7), (17, 16), (3, 3)]


@pytest.fixture(params=["python", "compiled"])
def found(request):
    """A function that asks both kernels for the taps: starts, weights."""
    flavour = as_python if request.param == "python" else lambda kernel: kernel

    def taps(size, resized, first, count, kind, channels=1, width=None):
        needed = np.zeros(1, np.int64)
        flavour(kernels.resampling_width)(size, resized, first, count, kind, needed)
        starts = np.empty(count, np.int64)
        weights = np.empty((count, width or int(needed[0]), channels), np.int32)
        flavour(kernels.resampling_taps)(size, resized, first, kind, starts, weights)
        return starts, weights

    return taps


def pillows(size, resized, kind) -> np.ndarray:
    """Float32 [resized, size]: what Pillow makes of every pixel's own unit impulse."""
    impulses = Image.fromarray(np.eye(size, dtype=np.float32))
    how = Image.Resampling[FILTERS[kind].upper()]
    return np.asarray(impulses.resize((resized, size), how)).T


def dense(starts, weights, size) -> np.ndarray:
    """The taps as a matrix [count, size], of the last channel."""
    matrix = np.zeros((len(starts), max(size, weights.shape[1])))
    for row, start, values in zip(matrix, starts, weights[..., -1], strict=True):
        row[start : start + len(values)] = values / ONE
    assert (matrix[:, size:] == 0).all()
    return matrix[:, :size]


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize(("size", "resized"), SIZES)
def test_weights_are_pillows(found, size, resized, kind):
    starts, weights = found(size, resized, 0, resized, kind)
    assert weights.shape[1] <= size
    assert (np.diff(starts) >= 0).all()
    expected = pillows(size, resized, kind)
    np.testing.assert_allclose(dense(starts, weights, size), expected, atol=1.0 / ONE)
    assert weights.shape[1] == 1 or kind > 0


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize(("size", "resized"), [(60, 31), (31, 60), (4, 20)])
def test_a_crop_is_a_part_of_the_whole(found, size, resized, kind):
    whole = dense(*found(size, resized, 0, resized, kind), size)
    part = dense(*found(size, resized, 6, 9, kind), size)
    np.testing.assert_array_equal(part, whole[6:15])


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize(("size", "resized"), [(60, 31), (5, 9)])
def test_more_taps_and_channels_change_nothing(found, size, resized, kind):
    plain = dense(*found(size, resized, 0, resized, kind), size)
    starts, weights = found(size, resized, 0, resized, kind, channels=3, width=24)
    np.testing.assert_array_equal(dense(starts, weights, size), plain)
    for channel in range(2):
        np.testing.assert_array_equal(weights[..., channel], weights[..., 2])


def test_too_few_taps_are_never_a_wrong_picture(found):
    """`picture_to_float32` refuses places below 0."""
    starts, _ = found(60, 31, 0, 31, 2, width=7)
    assert (starts == -1).all()
