"""A map that says nothing comes with its reason."""

from __future__ import annotations

import numpy as np
import pytest

from helpers_explaining import HandMade
from onnxcam import Engine
from onnxcam.diagnosis import REASONS, diagnose

PHOTO = np.random.default_rng(9).integers(0, 256, (12, 14, 3), dtype=np.uint8)


def explain(made, target=1):
    return Engine(made.bytes()).explain(PHOTO, target)


def check_silent(result, reason):
    assert result.diagnosis.reason == reason
    assert result.diagnosis.sentence == REASONS[reason]
    assert result.heatmap.dtype == np.float32
    assert not result.heatmap.any()
    for preset in (None, "signed", "keras-additive", "pytorch-grad-cam"):
        assert result.overlay(preset=preset).shape == PHOTO.shape
    assert result._repr_png_()
    assert reason in repr(result)


def test_a_map_that_is_fine():
    result = explain(HandMade())
    assert result.diagnosis.reason is None
    assert result.diagnosis.sentence == ""
    assert result.diagnosis.minimum == result.raw.min()
    assert result.diagnosis.maximum == result.raw.max()
    assert result.diagnosis.positive_share == (result.raw > 0).mean()


def test_all_negative():
    made = HandMade()
    made.weights["dense"][:] = -np.abs(made.weights["dense"])
    check_silent(explain(made), "all_negative")


@pytest.mark.parametrize("emit", ["gradient", "weights"])
def test_zero_gradient(emit):
    made = HandMade(emit=emit)
    made.weights["dense"][1] = 0
    check_silent(explain(made), "zero_gradient")
    assert explain(made, 0).diagnosis.reason != "zero_gradient"


def test_saturated():
    made = HandMade(kind="softmax", score="probability", weight_scale=1e4)
    best = Engine(made.bytes()).explain(PHOTO)
    assert best.probability == 1
    check_silent(best, "saturated")
    assert explain(made.but(score="logit"), best.target).diagnosis.reason != "saturated"


def test_all_zero():
    made = HandMade()
    made.weights["bias"][:] = -1e6  # the layer is dead, its gradient is not
    check_silent(explain(made), "all_zero")


@pytest.mark.parametrize("emit", ["gradient", "weights", "heatmap"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite(emit, bad):
    made = HandMade(emit=emit)
    made.weights["dense"][1, 3] = bad
    result = explain(made)
    check_silent(result, "non_finite")
    assert len(result.top(10)) == 5


def test_numbers_of_non_finite_maps():
    found = diagnose(np.array([-2.0, 1.0, 1.0, 2.0]), 4, None)
    assert (found.minimum, found.maximum, found.positive_share) == (-2, 1, 0.25)
    assert found.reason == "non_finite"
    found = diagnose(np.array([np.inf, -np.inf, 0.0, 4.0]), 4, None)
    assert np.isnan(found.minimum)
    assert np.isnan(found.maximum)


@pytest.mark.parametrize(
    ("probability", "reason"),
    [
        (1 - 1e-8, "saturated"),
        (1e-8, "saturated"),
        (0.5, "zero_gradient"),
        (0.99, "zero_gradient"),
        (None, "zero_gradient"),
    ],
)
def test_saturation_needs_a_probability_near_its_ends(probability, reason):
    nothing = np.zeros((2, 2), np.float32)
    assert diagnose(np.zeros(4), 4, nothing, probability).reason == reason
