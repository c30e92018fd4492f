"""The methods' kernels against their papers' formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest

from helpers_methods import ORACLES
from onnxcam.errors import MethodError
from onnxcam.methods import METHODS, find_method

RANDOM = np.random.default_rng(3)


def samples(signed: bool, scale: float = 1.0):
    a = RANDOM.normal(size=(512, 49)).astype(np.float32)
    g = (RANDOM.normal(size=(512, 49)) * scale).astype(np.float32)
    g[RANDOM.random(g.shape) < 0.3] = 0
    a = a if signed else np.maximum(a, 0)
    a[5] = 0  # a dead channel
    return a, g


def test_every_method_has_an_oracle():
    assert set(ORACLES) == set(METHODS)


def compute(name, a, g):
    """The signed map [P] of activation and gradient [C, P]."""
    raw, finished = np.empty((2, 1, 1, a.shape[1]), np.float32)
    find_method(name).load()(a[None], g[None, None], raw, finished, np.empty((1, 1, 4)))
    return raw[0, 0]


@pytest.mark.parametrize("name", ORACLES)
def test_formula(name):
    a, g = samples(signed=name not in ("gradcam++", "xgradcam"))
    expected = ORACLES[name](a.astype(float), g.astype(float))
    np.testing.assert_allclose(compute(name, a, g), expected, atol=2e-6 * np.abs(expected).max())


def test_gradcam_plusplus_does_not_underflow():
    """With the printed formula in float32, g^3 of 1e-15 is zero and alpha 0/0."""
    a, g = samples(signed=False, scale=1e-18)
    expected = np.tensordot((np.maximum(g.astype(float), 0) / 2).sum(axis=1), a, 1)
    np.testing.assert_allclose(compute("gradcam++", a, g), expected, rtol=1e-5)


def test_xgradcam_of_a_dead_layer_is_zero():
    assert not compute("xgradcam", np.zeros((2, 4), np.float32), np.ones((2, 4), np.float32)).any()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("where", ["activation", "gradient"])
def test_nan_reaches_the_map(name, where):
    a, g = samples(signed=False)
    (a if where == "activation" else g)[7, 3] = np.nan
    assert np.isnan(compute(name, a, g)[3])


def test_unknown_method_suggests():
    with pytest.raises(MethodError, match=r"'gradcam\+\+'"):
        find_method("GradCAM++")
    with pytest.raises(MethodError, match="known are gradcam, "):
        find_method("nonsense")
