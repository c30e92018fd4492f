"""Grad-CAM's weights behind dense layers that work on every position: against autograd."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch

from helpers_tokens import SmallViT, autograd, older_export
from onnxcam_export import from_onnx

TARGETS = [1, 4]


class ChannelsLast(torch.nn.Module):
    """A convolution, then a block that works on every position, channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first = torch.nn.Conv2d(3, 6, 4, 4), torch.nn.Linear(6, 12)
        self.norm, self.last = torch.nn.LayerNorm(6), torch.nn.Linear(12, 6)
        self.head = torch.nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x).permute(0, 2, 3, 1))
        return self.head(self.last(torch.relu(self.first(x))).amax((1, 2)))


def run(model, x):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"x": x.numpy(), "cam_target": np.array(TARGETS)}
    return session.run(["cam_weights"], feed)[0]


def last_operator(model):
    """What makes the weights, behind the Identity that names them."""
    makers = {name: node for node in model.graph.node for name in node.output}
    return makers[makers["cam_weights"].input[0]].op_type


@pytest.mark.parametrize(
    ("prefix", "head", "size"),
    [(1, "token", (16, 24)), (3, "mean", (16, 24)), (0, "mean", (16, 24)), (0, "mean", (8, 8))],
)
@pytest.mark.parametrize("layer", ["blocks.1.norm1", "blocks.0.norm2"])
def test_tokens(layer, prefix, head, size):
    torch.manual_seed(3)
    module = SmallViT(size, prefix, head).eval()
    x = torch.randn(2, 3, *size)
    model = from_onnx(older_export(module, x), layer, emit="weights")
    _, gradient = autograd(module, layer, x, TARGETS)
    expected = gradient[:, prefix:].mean(axis=1)
    np.testing.assert_allclose(run(model, x), expected, atol=1e-6 * np.abs(expected).max() + 1e-7)
    if layer == "blocks.1.norm1":
        assert last_operator(model) == "Gemm"


def test_channels_last():
    torch.manual_seed(3)
    module = ChannelsLast().eval()
    x = torch.randn(2, 3, 16, 24)
    model = from_onnx(older_export(module, x), "norm", emit="weights")
    _, gradient = autograd(module, "norm", x, TARGETS)
    expected = gradient.mean(axis=(1, 2))
    np.testing.assert_allclose(run(model, x), expected, atol=1e-6 * np.abs(expected).max() + 1e-7)
    assert last_operator(model) == "Gemm"
