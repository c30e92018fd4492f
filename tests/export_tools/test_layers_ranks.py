"""Layers of 1-D and 3-D networks, of channels-last files, of nested Keras models."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from helpers_tokens import autograd, older_export
from onnxcam.contract import METADATA_KEY, Contract
from onnxcam_export import from_onnx, from_torch
from onnxcam_export.assemble import build
from onnxcam_export.layers import Layers
from onnxcam_export.loading import prepare
from onnxcam_export.score import find_score
from onnxcam_export.sources import pytorch

TARGETS = [4, 1]


def contract(model) -> Contract:
    return Contract.loads(next(p.value for p in model.metadata_props if p.key == METADATA_KEY))


def run(model, x: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x, "cam_target": np.array(TARGETS)}
    return session.run(["cam_activation", "cam_gradient"], feed)


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    highest = np.abs(expected).max()
    assert highest > 0
    assert np.abs(found - expected).max() <= tolerance * highest


def network(rank: int) -> nn.Sequential:
    """Two convolutions, a pool between them, average over space, classifier."""
    torch.manual_seed(rank)
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank]
    norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[rank]
    pool = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}[rank]
    mean = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[rank]
    return nn.Sequential(
        conv(2, 6, 3, padding=1), norm(6), nn.ReLU(), pool(2),
        conv(6, 8, 3, padding=1, stride=2), nn.ReLU(), mean(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


@pytest.mark.parametrize(("rank", "shape"), [(1, (40,)), (2, (12, 20)), (3, (8, 12, 10))])
def test_one_two_and_three_spatial_axes(rank, shape):
    module = network(rank)
    x = torch.randn(2, 2, *shape)
    model = older_export(module, x)
    for layer, asked in (("5", None), ("3", "3"), ("0", "0")):
        found = run(from_onnx(model, asked), x.numpy())
        activation, gradient = autograd(module, layer, x, TARGETS)
        if layer != "0":  # the older exporter folds the norm into the convolution
            assert_close(found[0], activation)
            assert_close(found[1], gradient)
        assert found[0].ndim == rank + 2
    assert contract(from_onnx(model)).layer.name == "5"


def test_a_video_network_by_dynamo():
    module = network(3)
    x = torch.randn(2, 2, 6, 8, 8)
    model = from_torch(module, x, "4")
    found = run(model, x.numpy())
    activation, gradient = autograd(module, "4", x, TARGETS)
    assert_close(found[0], activation)
    assert_close(found[1], gradient)


class ChannelsLast(nn.Module):
    """Takes [N, H, W, C]: Transposes around the convolutions, a norm over the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2)
        self.norm, self.dense, self.head = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = torch.nn.functional.gelu(self.dense(self.norm(x)))
        x = torch.relu(self.second(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return self.head(x.mean((1, 2)))


def test_channels_last():
    torch.manual_seed(0)
    module = ChannelsLast()
    x = torch.randn(2, 10, 14, 3)
    model = older_export(module, x)
    for layer in ("dense", "norm", "second"):
        explained = from_onnx(model, layer)
        found = run(explained, x.numpy())
        activation, gradient = autograd(module, layer, x, TARGETS)
        first = (0, 3, 1, 2) if layer != "second" else (0, 1, 2, 3)
        assert_close(found[0], activation.transpose(first))
        assert_close(found[1], gradient.transpose(first))
        assert contract(explained).picture.layout == "NHWC"
    default = run(from_onnx(model), x.numpy())[0]
    assert default.shape == (2, 8, 4, 6)


class ChannelAttention(nn.Module):
    """ECA: a 1-D convolution over the channels, as if they were pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 8, 3), nn.Conv1d(1, 1, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        gate = torch.sigmoid(self.gate(x.mean((2, 3))[:, None]))
        return self.head((x * gate.transpose(1, 2)[..., None]).mean((2, 3)))


def test_channels_are_not_pixels():
    """A 1-D convolution over the channels makes no layer of a network that reads pictures."""
    torch.manual_seed(0)
    graph = prepare(older_export(ChannelAttention(), torch.randn(2, 3, 8, 8))).graph
    candidates = Layers(graph, find_score(graph, "logit").value).candidates()
    assert candidates
    assert all(len(candidate.shape) == 4 for candidate in candidates)


class ClassMap(nn.Module):
    """SqueezeNet's and NiN's end: one channel a class, then the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        self.classes = nn.Sequential(nn.Dropout(), nn.Conv2d(8, 5, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes(self.features(x)).mean((2, 3))


class HeadBehindPooling(nn.Module):
    """MobileNetV3's and GhostNet's end: convolutions on the one pixel that pooling left."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Hardswish())
        self.head = nn.Sequential(nn.Conv2d(8, 12, 1), nn.Hardswish())
        self.classifier = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x).mean((2, 3), keepdim=True)
        return self.classifier(self.head(x).flatten(1))


class InPlace(nn.Module):
    """DenseNet's end: a ReLU in place behind the last norm, its output has no module."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.relu(self.features(x), inplace=True)
        return self.classifier(x.mean((2, 3)))


class Pools(nn.Module):
    """VGG's end: a pool and an adaptive pool before the dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.pool, self.classifier = nn.AdaptiveAvgPool2d(2), nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))


@pytest.mark.parametrize(
    ("kind", "operator", "channels", "spatial"),
    [
        (ClassMap, "Relu", 8, 6),
        (HeadBehindPooling, "HardSwish", 8, 6),
        (InPlace, "Relu", 8, 6),
        (Pools, "Relu", 8, 8),
    ],
)
def test_the_default_of_unusual_ends(kind, operator, channels, spatial):
    torch.manual_seed(0)
    graph = prepare(older_export(kind(), torch.randn(2, 3, 8, 8))).graph
    default = Layers(graph, find_score(graph, "logit").value).default()
    assert default.value.producer().op_type == operator
    assert default.shape[1:] == [channels, spatial, spatial]


def test_nested_keras_models():
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend in this process")
    from onnxcam_export import from_keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    picture = keras.Input((12, 16, 3))
    inner = layers.Conv2D(6, 3, activation="relu", name="deep")(picture)
    inner = keras.Model(picture, layers.MaxPooling2D()(inner), name="inner")
    outer = keras.Input((12, 16, 3))
    x = layers.GlobalAveragePooling2D()(inner(outer))
    model = keras.Model(outer, layers.Dense(5, name="scores")(x))
    images = np.random.default_rng(0).standard_normal((2, 12, 16, 3)).astype(np.float32)
    hidden = inner.get_layer("deep")(torch.from_numpy(images))
    hidden.retain_grad()
    pooled = torch.nn.functional.max_pool2d(hidden.permute(0, 3, 1, 2), 2).mean((2, 3))
    model.get_layer("scores")(pooled)[range(2), TARGETS].sum().backward()
    expected = hidden.grad.numpy().transpose(0, 3, 1, 2)
    for asked in ("deep", "inner/deep", None):
        found = run(from_keras(model, asked), images)
        assert_close(found[1], expected)


class AttentionPooled(nn.Module):
    """Pixels weighed by a softmax over a mask of one channel, the last spatial tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mask = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 1, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        weights = self.mask(x).flatten(2).softmax(-1)
        return self.head((x.flatten(2) @ weights.transpose(1, 2)).flatten(1))


def test_a_mask_of_one_channel_is_not_the_default():
    torch.manual_seed(0)
    built = build(pytorch.capture(AttentionPooled().eval(), torch.zeros(2, 3, 12, 12)))
    assert built.layer.shape[1:] == [8, 10, 10]
