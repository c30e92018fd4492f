"""The engine end to end, batches, ten classes, and export, of MobileNetV2 with random weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from explaining_cost import random_network, session

from onnxcam import Engine, Stream
from onnxcam_export import from_onnx

THREADS = 1
CLASSES = 10


@pytest.fixture(scope="module")
def plain() -> onnx.ModelProto:
    return random_network("mobilenet_v2")


@pytest.fixture(scope="module")
def engine(plain) -> Engine:
    model = from_onnx(plain, preprocess="imagenet")
    return Engine(model.SerializeToString(), threads=THREADS)


@pytest.fixture(scope="module")
def engine_of_ten(plain) -> Engine:
    return Engine(from_onnx(plain, targets=CLASSES).SerializeToString(), threads=THREADS)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, 224, 224)).astype(np.float32)


def test_plain_forward(benchmark, plain):
    ran = session(plain, THREADS)
    benchmark(ran.run, None, {ran.get_inputs()[0].name: images(1)})


@pytest.mark.parametrize("count", [1, 8, 16])
def test_maps_of_a_batch(benchmark, engine, count):
    batch = images(count)
    out = engine.maps(batch)
    alone = np.concatenate([engine.maps(batch[i : i + 1]) for i in range(count)])
    np.testing.assert_allclose(out, alone, atol=1e-3)
    benchmark(engine.maps, batch, out=out)


def test_ten_classes(benchmark, engine, engine_of_ten):
    image, classes = images(1), np.arange(CLASSES)[None]
    out = engine_of_ten.maps(image, classes)
    each = np.stack([engine.maps(image, int(target)) for target in classes[0]], axis=1)
    np.testing.assert_allclose(out, each, atol=1e-3)
    benchmark(engine_of_ten.maps, image, classes, out=out)


def test_picture_to_overlay(benchmark, engine, photograph):
    painted = benchmark(lambda: engine.explain(photograph).overlay())
    assert painted.shape == photograph.shape
    assert (painted != photograph).any()


def test_frames_of_a_camera(benchmark, engine, photograph):
    stream = Stream(engine)
    painted = benchmark(stream, photograph)
    np.testing.assert_array_equal(painted, engine.explain(photograph).overlay())


def test_export(benchmark, plain):
    model = benchmark.pedantic(from_onnx, args=(plain,), rounds=5, warmup_rounds=1)
    assert "cam_gradient" in [output.name for output in model.graph.output]
