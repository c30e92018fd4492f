"""Kernels alone: maps from activation and gradient, painting, preprocessing.

Each is run once beside NumPy or OpenCV, and has to agree, before it is timed.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from onnxcam import Preprocessing, overlay
from onnxcam.contract import Resize
from onnxcam.methods import METHODS
from onnxcam.preprocess import Preparation

SHAPES = {"2048x7x7": (2048, 7), "1280x7x7": (1280, 7), "512x14x14": (512, 14)}
SIZES = {"224x224": (224, 224), "720p": (720, 1280), "4K": (2160, 3840)}
# of one channel of activation a and gradient g, [C, h, w]: the signed map, in NumPy
REFERENCES = {
    "gradcam": lambda a, g: (g.mean(axis=(1, 2))[:, None, None] * a).sum(axis=0),
    "layercam": lambda a, g: (np.maximum(g, 0) * a).sum(axis=0),
    "hirescam": lambda a, g: (g * a).sum(axis=0),
}


def layer(channels: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    shape = (channels, side, side)
    activation = np.maximum(random.normal(size=shape), 0).astype(np.float32)
    return activation, random.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_reduction(benchmark, shape, method):
    activation, gradient = layer(*SHAPES[shape])
    area = activation[0].size
    raw, finished = np.empty((2, 1, 1, area), np.float32)
    arguments = (
        activation.reshape(1, -1, area),
        gradient.reshape(1, 1, -1, area),
        raw,
        finished,
        np.empty((1, 1, 4)),
    )
    kernel = METHODS[method].load()
    kernel(*arguments)
    assert np.isfinite(raw).all()
    assert finished.max() == 1
    if method in REFERENCES:
        expected = REFERENCES[method](activation.astype(float), gradient.astype(float)).ravel()
        np.testing.assert_allclose(raw[0, 0], expected, atol=1e-4 * np.abs(expected).max())
    benchmark(kernel, *arguments)


@pytest.mark.parametrize("colormap", ["jet", "viridis"])
@pytest.mark.parametrize("size", SIZES)
def test_overlay(benchmark, size, colormap):
    random = np.random.default_rng(0)
    heatmap = random.uniform(size=(7, 7)).astype(np.float32)
    picture = random.integers(0, 256, (*SIZES[size], 3), dtype=np.uint8)
    out = np.empty_like(picture)
    overlay(heatmap, picture, colormap=colormap, out=out)
    if colormap == "jet":  # OpenCV's viridis is not matplotlib's
        enlarged = np.uint8(255 * cv2.resize(heatmap, picture.shape[1::-1]))
        colors = cv2.applyColorMap(enlarged, cv2.COLORMAP_JET)[..., ::-1]
        expected = cv2.addWeighted(picture, 0.6, np.ascontiguousarray(colors), 0.4, 0)
        assert np.abs(out.astype(int) - expected).max() <= 2
    benchmark(overlay, heatmap, picture, colormap=colormap, out=out)


@pytest.mark.parametrize("size", SIZES)
def test_preprocessing(benchmark, size):
    height, width = SIZES[size]
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    spec = Preprocessing(size=(224, 224), scale=1 / 255, resize=Resize(filter="bilinear"))
    preparation = Preparation(spec, "NCHW", np.float32)
    out = np.empty(preparation.shape, np.float32)
    preparation.fill(picture, out)
    expected = np.asarray(Image.fromarray(picture).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(out.transpose(1, 2, 0) * 255 - expected).max() <= 1
    benchmark(preparation.fill, picture, out)
