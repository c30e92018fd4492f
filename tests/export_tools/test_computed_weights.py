"""Networks whose weights, norms and bounds depend on the picture, against autograd."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from onnxcam_export import from_torch

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
F = torch.nn.functional


class Hypernetwork(torch.nn.Module):
    """One picture; everything behind the features is computed from them."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, 2, 1), torch.nn.Tanh())
        self.weight = torch.nn.Linear(6, 8 * 6 * 9)
        self.style, self.norm = torch.nn.Linear(6, 6), torch.nn.Linear(6, 16)
        self.slope, self.bounds = torch.nn.Linear(6, 8), torch.nn.Linear(6, 2)
        self.head = torch.nn.Linear(8, 5)

    def behind(self, maps):
        pooled = maps.mean((2, 3))
        weight = self.weight(pooled).view(8, 6, 3, 3) * (1 + self.style(pooled)).view(1, 6, 1, 1)
        weight = weight * torch.rsqrt((weight**2).sum((1, 2, 3), keepdim=True) + 1e-6)
        x = F.conv2d(maps, weight, self.norm(pooled)[0, :8], padding=1)
        x = F.prelu(x, self.slope(pooled)[0])
        low, high = self.bounds(pooled)[0]
        x = torch.clamp(x, low - 0.3, high + 0.6)
        scale, shift = self.norm(pooled)[0].chunk(2)
        x = F.layer_norm(x.flatten(2).transpose(1, 2), (8,), scale, shift)
        return self.head(x.tanh().mean(1))

    def forward(self, x):
        return self.behind(self.features(x))


def test_hypernetwork_agrees_with_autograd():
    torch.manual_seed(1)
    module, x = Hypernetwork().eval(), torch.randn(1, 3, 16, 16)
    proto = from_torch(module, x, "features.1", dynamic_batch=False)
    kinds = {node.op_type for node in proto.graph.node if not node.name.startswith("cam/")}
    assert {"Conv", "PRelu", "LayerNormalization"} <= kinds, kinds
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy(), "cam_target": np.array([2])}
    activation, found = session.run(["cam_activation", "cam_gradient"], feed)
    maps = torch.tensor(activation, requires_grad=True)
    module.behind(maps)[0, 2].backward()
    expected = maps.grad.numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
