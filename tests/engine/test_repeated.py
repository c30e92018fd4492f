"""Overlays like one before: the same pixels as when every argument is checked anew."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam import compiled, overlay, painting, repeated
from onnxcam.errors import InputError, MethodError, OnnxcamError

RANDOM = np.random.default_rng(8)
SHAPE = (50, 45, 3)


def heat(*shape: int) -> np.ndarray:
    return RANDOM.random(shape, np.float32)


def photo(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def again(monkeypatch):
    """How often a call was answered without a closer look."""
    if compiled.origin() == "jit":
        pytest.skip("calls are prepared for the library only")
    answers = []

    def counted(*given):
        answers.append(repeated.paint_again(*given))
        return answers[-1]

    monkeypatch.setattr(painting, "paint_again", counted)
    return lambda: [each is not None for each in answers]


def checked(monkeypatch, *given, **options) -> np.ndarray:
    with monkeypatch.context() as patch:
        patch.setattr(painting, "paint_again", lambda *_: None)
        return overlay(*given, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 0.7, "bgr": True},
        {"bgr": True},
        {"colormap": "viridis", "interpolation": "bicubic"},
        {"colormap": "turbo", "blend": "map-alpha", "bgr": True},
        {"blend": "heat", "threads": 2},
        {"blend": "additive", "alpha": 1},
        {"blend": "contours"},
        {"rectangle": (3.5, 4.0, 30.0, 41.5)},
        {"blend": "contours", "levels": (0.3, 0.6), "line_width": 3, "antialias": False},
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_same_pixels(options, channels, again, monkeypatch):
    shape = (*SHAPE[:2], channels)
    for _ in range(3):
        values, picture = heat(5, 6), photo(*shape)
        out = np.zeros((*SHAPE[:2], 4 if channels == 4 else 3), np.uint8)
        expected = checked(monkeypatch, values, picture, out=out.copy(), **options)
        assert overlay(values, picture, out=out, **options) is out
        np.testing.assert_array_equal(out, expected)
        if channels == 3:
            np.testing.assert_array_equal(overlay(values, picture, **options), expected)
            overlay(values, picture, out=picture, **options)
            np.testing.assert_array_equal(picture, expected)
    assert all(again())


def test_what_is_looked_at_again(again, monkeypatch):
    """Arrays of other kinds give what they always gave."""
    values, picture = heat(5, 6), photo(*SHAPE)
    expected = overlay(values, picture)
    fixed = picture.copy()
    fixed.flags.writeable = False
    wide = np.zeros((50, 90, 3), np.uint8)
    wide[:, :45] = picture
    rgba = np.dstack([picture, np.full(SHAPE[:2], 255, np.uint8)])
    assert again() == [True]
    np.testing.assert_array_equal(overlay(values, fixed), expected)
    assert again() == [True, True]
    with pytest.raises(InputError, match="writeable"):
        overlay(values, picture, out=fixed)
    for other in (wide[:, :45], rgba):
        np.testing.assert_array_equal(overlay(values, other), expected)
    np.testing.assert_array_equal(overlay(values.astype(float), picture), expected)
    whole = [0.0, 0.0, 45.0, 50.0]
    np.testing.assert_array_equal(overlay(values, picture, rectangle=whole), expected)
    signed = overlay(values, picture, preset="diverging")
    np.testing.assert_array_equal(signed, checked(monkeypatch, values, picture, preset="diverging"))
    assert not any(again()[2:])


def test_memory_shared_in_part(again):
    """A picture that begins elsewhere in `out` is not painted over before it is read."""
    values, memory = heat(5, 6), photo(2 * 50 * 45 * 3)
    size = 50 * 45 * 3
    picture = memory[:size].reshape(SHAPE)
    expected = overlay(values, picture.copy())
    out = memory[96 : 96 + size].reshape(SHAPE)
    np.testing.assert_array_equal(overlay(values, picture, out=out), expected)
    gray = memory[:2250].reshape(50, 45, 1)  # where `out` begins, but smaller
    expected = overlay(values, gray.copy())
    out = memory[:size].reshape(SHAPE)
    np.testing.assert_array_equal(overlay(values, gray, out=out), expected)
    assert again() == [True, False, True, False]


def test_errors_are_the_usual_ones(again):
    values, picture = heat(5, 6), photo(*SHAPE)
    overlay(values, picture, alpha=1)
    for wrong, options in (
        ((values, picture), {"alpha": 2.0}),
        ((values, picture), {"out": np.zeros(SHAPE, np.float32)}),
        ((values, picture), {"out": np.zeros((50, 45, 4), np.uint8)}),
        ((values[0], picture), {}),
        ((values[:0], picture), {}),
    ):
        with pytest.raises(InputError):
            overlay(*wrong, **options)
    for options in ({"blend": "none"}, {"colormap": "none"}, {"blend": "heat", "alpha": 0.5}):
        with pytest.raises(MethodError):
            overlay(values, picture, **options)
    with pytest.raises(OnnxcamError):
        overlay(values, photo(50, 45, 2))
    before = picture.copy()
    values[2, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        overlay(values, picture, out=picture)
    np.testing.assert_array_equal(picture, before)
