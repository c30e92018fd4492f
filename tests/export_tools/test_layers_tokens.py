"""Layers of transformers: which is the default, and how its tokens lie on the picture."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from helpers_tokens import SmallViT, autograd, older_export, on_grid
from onnxcam.contract import METADATA_KEY, Contract
from onnxcam.errors import LayerError
from onnxcam_export import from_onnx, from_torch
from onnxcam_export.assemble import build
from onnxcam_export.layers import Layers
from onnxcam_export.loading import prepare
from onnxcam_export.score import find_score
from onnxcam_export.sources import onnx_file, pytorch
from onnxcam_export.verify import verify

TARGETS = [3, 0]


def pictures(height: int = 16, width: int = 24, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(4))


def run(model, x: torch.Tensor, targets=TARGETS):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy(), "cam_target": np.array(targets, np.int64)}
    return session.run(["cam_activation", "cam_gradient"], feed)


def layers_of(model) -> Layers:
    graph = prepare(model).graph
    return Layers(graph, find_score(graph, "logit").value)


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    highest = np.abs(expected).max()
    assert highest > 0
    assert np.abs(found - expected).max() <= 1e-5 * highest


def vit(**kwargs) -> SmallViT:
    torch.manual_seed(0)
    return SmallViT(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"prefix": 1}, "blocks.1.norm1"),  # behind it, only the class token is read
        ({"prefix": 3}, "blocks.1.norm1"),  # class token and registers
        ({"prefix": 1, "depth": 1}, "blocks.0.norm1"),
        ({"prefix": 1, "head": "mean"}, "blocks.1"),
        ({"prefix": 0, "head": "mean"}, "blocks.1"),
        ({"prefix": 4, "head": "mean", "size": (24, 8)}, "blocks.1"),
    ],
)
@pytest.mark.parametrize("dynamic", [True, False])
def test_the_default_layer_and_its_gradient(kwargs, expected, dynamic):
    module = vit(**kwargs)
    x = pictures(*(4 * side for side in module.grid))
    model = from_onnx(older_export(module, x, dynamic))
    document = Contract.loads(next(p.value for p in model.metadata_props if p.key == METADATA_KEY))
    assert document.layer.name == expected
    activation, gradient = autograd(module, expected, x, TARGETS)
    found = run(model, x)
    assert_close(found[0], on_grid(activation, module.prefix, module.grid))
    assert_close(found[1], on_grid(gradient, module.prefix, module.grid))


@pytest.mark.parametrize(
    "layer", ["blocks.0.norm1", "blocks.0", "blocks.0.mlp.0", "blocks.1.qkv", "blocks.1.proj"]
)
def test_any_sequence_of_tokens_is_a_layer(layer):
    module, x = vit(prefix=2, head="mean"), pictures()
    found = run(from_onnx(older_export(module, x), layer), x)
    activation, gradient = autograd(module, layer, x, TARGETS)
    assert_close(found[0], on_grid(activation, 2, module.grid))
    assert_close(found[1], on_grid(gradient, 2, module.grid))


def test_by_dynamo_a_module_path_and_the_default_agree():
    module, x = vit(), pictures()
    named = from_torch(module, x, "blocks.1.norm1")
    default = from_torch(module, x)
    _, gradient = autograd(module, "blocks.1.norm1", x, TARGETS)
    for model in (named, default):
        assert_close(run(model, x)[1], on_grid(gradient, 1, module.grid))
        assert_close(run(model, x[:1], [3])[1], on_grid(gradient, 1, module.grid)[:1])


def test_verify_lays_out_both_sides():
    module, x = vit(), pictures()
    source = pytorch.capture(module, x, "blocks.1.norm1")
    assert verify(build(source, layer="blocks.1.norm1"), source).agrees
    plain = onnx_file.load(older_export(module, x)) if hasattr(onnx_file, "load") else None
    if plain is not None:
        assert verify(build(plain), plain).agrees


def test_mean_weights_leave_the_class_token_out():
    module, x = vit(), pictures()
    model = from_onnx(older_export(module, x), emit="weights")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    weights = session.run(["cam_weights"], {"x": x.numpy(), "cam_target": np.array(TARGETS)})[0]
    _, gradient = autograd(module, "blocks.1.norm1", x, TARGETS)
    assert_close(weights, gradient[:, 1:].mean(1))


class Patchified(nn.Module):
    """Patches cut by Reshape and Transpose: no layer of the graph has the grid."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(48, 8), nn.LayerNorm(8)
        self.mix, self.head = nn.Linear(24, 24), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        x = x.reshape(n, 3, 4, 4, 6, 4).permute(0, 2, 4, 1, 3, 5).reshape(n, 24, 48)
        x = self.norm(self.embed(x))
        x = x + self.mix(x.transpose(1, 2)).transpose(1, 2)
        return self.head(torch.relu(x).mean(1))


def test_a_grid_that_the_graph_does_not_tell_has_to_be_named():
    torch.manual_seed(0)
    module, x = Patchified(), pictures()
    model = older_export(module, x)
    layers = layers_of(model)
    with pytest.raises(LayerError, match="name the grid of its tokens"):
        layers.find("norm")
    candidate = layers.find("norm", grid=(4, 6))
    assert candidate.shape[1:] == [8, 4, 6]
    activation, _ = autograd(module, "norm", x, TARGETS)
    assert_close(candidate.exposed(activation), on_grid(activation, 0, (4, 6)))
    for grid in ((5, 6), (0, 6)):
        with pytest.raises(LayerError, match="expected 24 tokens or fewer"):
            layers.find("norm", grid=grid)
    for name in (None, "last_conv"):
        with pytest.raises(LayerError, match="name the layer too"):
            layers.find(name, grid=(4, 6))


def test_a_named_grid_gives_maps_of_that_grid():
    torch.manual_seed(0)
    module, x = Patchified(), pictures()
    activation, gradient = autograd(module, "norm", x, TARGETS)
    for model in (
        from_onnx(older_export(module, x), layer="norm", grid=(4, 6)),
        from_torch(module, x, layer="norm", grid=(4, 6)),
    ):
        found = run(model, x)
        assert_close(found[0], on_grid(activation, 0, (4, 6)))
        assert_close(found[1], on_grid(gradient, 0, (4, 6)))


def test_a_grid_for_a_layer_that_has_one_is_refused():
    with pytest.raises(LayerError, match="is no sequence of tokens"):
        from_torch(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)),
                   torch.zeros(1, 3, 8, 8), layer="1", grid=(6, 6))  # fmt: skip


def test_embedding_undoes_exposing():
    candidate = layers_of(older_export(vit(prefix=2), pictures())).find("blocks.0.norm1")
    tokens = np.random.default_rng(0).standard_normal((2, 26, 12))
    back = candidate.embedded(candidate.exposed(tokens))
    assert np.array_equal(back[:, 2:], tokens[:, 2:])
    assert not back[:, :2].any()


class Windows(nn.Module):
    """Swin's way: channels last, attention in windows of 2x2, patches merged between stages."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 6, 2, 2), nn.LayerNorm(6)
        self.qk, self.v = nn.Linear(6, 12), nn.Linear(6, 6)
        self.merge, self.last = nn.Linear(24, 8), nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(x).permute(0, 2, 3, 1))
        n, h, w, c = x.shape
        y = x.reshape(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k = self.qk(y).chunk(2, -1)
        y = (q @ k.transpose(1, 2)).softmax(-1) @ self.v(y)
        y = y.reshape(n, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        x = x + y
        x = torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
        return self.head(self.last(self.merge(x)).permute(0, 3, 1, 2).mean((2, 3)))


def test_channels_last_and_windows():
    torch.manual_seed(0)
    module, x = Windows(), pictures()
    model = older_export(module, x)
    candidates = layers_of(model).candidates()
    windows = [c for c in candidates if c.tokens is not None]
    assert not windows, [c.value.name for c in windows]
    found = run(from_onnx(model), x)
    activation, gradient = autograd(module, "last", x, TARGETS)
    assert_close(found[0], activation.transpose(0, 3, 1, 2))
    assert_close(found[1], gradient.transpose(0, 3, 1, 2))
    named = run(from_onnx(model, "norm"), x)
    _, gradient = autograd(module, "norm", x, TARGETS)
    assert_close(named[1], gradient.transpose(0, 3, 1, 2))


class Unrolled(nn.Module):
    """Hiera's way: the tokens are sorted by windows once, and pooled by a Reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.mlp, self.head = nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        n, _, c = x.shape
        x = x.reshape(n, 2, 2, 3, 2, c).permute(0, 2, 4, 1, 3, 5).reshape(n, 24, c)
        x = x + torch.relu(self.mlp(self.norm(x)))
        return self.head(x.reshape(n, 4, 6, c).amax(1).mean(1))


def test_a_changed_order_of_tokens_is_no_grid():
    torch.manual_seed(0)
    layers = layers_of(older_export(Unrolled(), pictures()))
    for candidate in layers.candidates():
        assert candidate.name == "embed" or candidate.value.name.startswith(("/Reshape", "/Transp"))
    default = layers.default()
    assert default.name == "embed"
    assert "most of the network" in default.note
    with pytest.raises(LayerError, match="name the grid"):
        layers.find("norm")
