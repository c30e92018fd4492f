"""The kernels between activation, gradient and map: as Python and compiled, against NumPy."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from helpers_methods import ORACLES
from onnxcam import kernels
from onnxcam.methods import METHODS

RANDOM = np.random.default_rng(7)
# Around the groups of eight channels and lanes, and the blocks of 256 positions.
SHAPES = [(1, 1), (3, 7), (4, 8), (7, 9), (8, 16), (9, 35), (13, 255), (16, 256), (21, 300)]
SHAPES += [(5, 600), (16, 8), (9, 600), (64, 49), (13, 49), (3, 49)]


def samples(channels: int, positions: int, images: int = 1, targets: int = 1):
    a = np.maximum(RANDOM.normal(size=(images, channels, positions)), 0).astype(np.float32)
    g = RANDOM.normal(size=(images, targets, channels, positions)).astype(np.float32)
    return a, g


def guarded(shape, dtype=np.float32):
    """An array with 64 bytes of guard on both sides, and a check that they are untouched."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    whole = np.full(size + 128, 0xA5, np.uint8)
    view = whole[64 : 64 + size].view(dtype).reshape(shape)

    def check():
        assert (whole[:64] == 0xA5).all() and (whole[-64:] == 0xA5).all()

    return view, check


def run(name, a, slopes):
    """Raw, finished and summary of the kernel of that name."""
    n, k, p = *slopes.shape[:2], a.shape[2]
    (raw, raw_check), (finished, finished_check), (summary, summary_check) = (
        guarded((n, k, p)),
        guarded((n, k, p)),
        guarded((n, k, 4), np.float64),
    )
    getattr(kernels, name)(a, slopes, raw, finished, summary)
    for check in (raw_check, finished_check, summary_check):
        check()
    return raw, finished, summary


def check_finished(raw, finished, summary):
    for index in np.ndindex(raw.shape[:2]):
        map_ = raw[index]
        assert summary[index].tolist() == [map_.min(), map_.max(), (map_ > 0).sum(), 0]
        positive = np.maximum(map_, 0)
        expected = positive / positive.max() if positive.any() else positive
        np.testing.assert_array_equal(finished[index], expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", METHODS)
def test_methods(method, shape):
    a, g = samples(*shape, images=2, targets=3)
    raw, finished, summary = run(METHODS[method].kernel, a, g)
    for n, k in np.ndindex(2, 3):
        expected = ORACLES[method](a[n].astype(float), g[n, k].astype(float))
        np.testing.assert_allclose(raw[n, k], expected, atol=2e-6 * max(np.abs(expected).max(), 1))
    check_finished(raw, finished, summary)


@pytest.mark.parametrize("shape", SHAPES)
def test_weighted_sum(shape):
    a, g = samples(*shape, images=2, targets=3)
    weights = np.ascontiguousarray(g[..., 0])
    raw, finished, summary = run("weighted_sum", a, weights)
    expected = np.einsum("nkc,ncp->nkp", weights.astype(float), a.astype(float))
    np.testing.assert_allclose(raw, expected, atol=1e-6 * np.abs(expected).max())
    check_finished(raw, finished, summary)


@pytest.mark.parametrize("shape", SHAPES)
def test_channel_means(shape):
    g = samples(*shape)[1][0, 0]
    out = np.empty(shape[0], np.float32)
    kernels.channel_means(g, out)
    wide = g.astype(float)
    # pooling.py, and the division
    bound = (37 + shape[1] / 256) * 2.0**-24 * np.abs(wide).mean(axis=1)
    assert (np.abs(out - wide.mean(axis=1)) <= bound).all()


def test_sums_that_cancel():
    """The largest error the bound allows for is that of large terms that cancel."""
    values = np.tile(np.array([1e4, -1e4, 1, 0], np.float32), (8, 784))
    out = np.empty(8, np.float32)
    kernels.channel_means(values, out)
    np.testing.assert_allclose(out, 0.25, atol=(37 + 3136 / 256) * 2.0**-24 * 5000)


def test_a_negative_map_is_zero():
    a, g = samples(8, 10)
    raw, finished, summary = run("hirescam", a, -np.abs(g))
    assert not finished.any()
    assert summary[0, 0, 2] == 0
    assert raw.min() < 0


def test_tiny_values():
    """No epsilon: a map of denormal numbers is scaled as any other."""
    weights = np.array([[[1e-38]], [[-1e-38]]], np.float32)
    a = np.array([[[1, -1, 0.5]], [[1, 0, 1]]], np.float32)
    _, finished, _ = run("weighted_sum", a, weights)
    np.testing.assert_allclose(finished[:, 0], [[1, 0, 0.5], [0, 0, 0]], rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["activation", "gradient"])
@pytest.mark.parametrize("channel", [2, 8])  # in a group of eight, and behind it
def test_what_is_not_finite_is_counted(method, bad, where, channel):
    a, g = samples(9, 20, images=2)
    a[1] += 1
    (a if where == "activation" else g[:, 0])[1, channel, 3] = bad
    with np.errstate(all="ignore"):
        expected = ORACLES[method](a[1].astype(float), g[1, 0].astype(float))
    raw, finished, summary = run(METHODS[method].kernel, a, g)
    assert summary[0, 0, 3] == 0
    assert summary[1, 0, 3] == (~np.isfinite(raw[1, 0])).sum()
    if not np.isfinite(expected).all():  # Grad-CAM++ of infinity has weight zero, in the limit
        assert summary[1, 0, 3] > 0
        assert not finished[1].any()
    if np.isnan(bad):
        assert np.isnan(raw[1, 0, 3])


def test_summary():
    raw = np.array([[1, -2, np.nan, 3, 0, np.inf, -np.inf], [-1, 0, 0, 5, 5, 5, 5]], np.float32)
    for flavour in (kernels.summarise, kernels.summarise.py_func):
        out = np.empty((2, 4))
        flavour(raw, out)
        assert out.tolist() == [[-2, 3, 2, 3], [-1, 5, 4, 0]]


_AS_PYTHON = """
import sys
import numpy as np
from onnxcam import kernels
from onnxcam.methods import METHODS

data = np.load(sys.argv[1])
found = {}
for name in (*(method.kernel for method in METHODS.values()), "weighted_sum"):
    slopes = data["w"] if name == "weighted_sum" else data["g"]
    raw, finished = np.empty((2, 2, 2, data["a"].shape[2]), np.float32)
    summary = np.empty((2, 2, 4))
    with np.errstate(all="ignore"):
        getattr(kernels, name)(data["a"], slopes, raw, finished, summary)
    found |= {name + "_raw": raw, name + "_finished": finished, name + "_summary": summary}
np.savez(sys.argv[2], **found)
"""


@pytest.mark.parametrize(("channels", "positions"), [(13, 35), (13, 49), (8, 261)])
def test_as_plain_python_bit_for_bit(tmp_path, channels, positions):
    """The order of every sum is written down: NumPy's float32 gives the same bits."""
    a, g = samples(channels, positions, images=2, targets=2)
    weights = np.ascontiguousarray(g[..., 0])
    np.savez(tmp_path / "in.npz", a=a, g=g, w=weights)
    command = [sys.executable, "-c", _AS_PYTHON, tmp_path / "in.npz", tmp_path / "out.npz"]
    subprocess.run(command, check=True, env=os.environ | {"NUMBA_DISABLE_JIT": "1"})
    found = np.load(tmp_path / "out.npz")
    for name in (*(method.kernel for method in METHODS.values()), "weighted_sum"):
        compiled = run(name, a, weights if name == "weighted_sum" else g)
        for kind, values in zip(("raw", "finished", "summary"), compiled, strict=True):
            np.testing.assert_array_equal(found[f"{name}_{kind}"], values, err_msg=name)
