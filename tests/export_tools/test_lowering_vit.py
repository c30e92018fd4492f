"""A ViT that onnxruntime's transformer optimizer has fused gives the maps of the plain one."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxcam.errors import ModelError
from onnxcam_export import from_onnx

torch = pytest.importorskip("torch")
nn = torch.nn

WIDTH, HEADS, PATCH, SIZE = 48, 4, 8, 32


class Attention(nn.Module):
    """As in Hugging Face's ViT, which the optimizer recognises."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def heads(self, x):
        return x.view(x.size(0), -1, HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)

    def forward(self, x):
        query, key, value = (self.heads(f(x)) for f in (self.query, self.key, self.value))
        scores = torch.matmul(query, key.transpose(-1, -2)) / (WIDTH // HEADS) ** 0.5
        mixed = torch.matmul(scores.softmax(-1), value).permute(0, 2, 1, 3).contiguous()
        return self.out(mixed.view(x.size(0), -1, WIDTH))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2, self.attention = (
            nn.LayerNorm(WIDTH),
            nn.LayerNorm(WIDTH),
            Attention(),
        )
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 96), nn.GELU(), nn.Linear(96, WIDTH))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.blocks = nn.Sequential(*[Block() for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 6)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], 1)
        return self.head(self.norm(self.blocks(x))[:, 0])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of the plain file and of the optimised one."""
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    folder = tmp_path_factory.mktemp("vit")
    plain, fused = folder / "plain.onnx", folder / "fused.onnx"
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter is deprecated, and what is optimised
        torch.onnx.export(
            Transformer().eval(), (torch.randn(1, 3, SIZE, SIZE),), plain, dynamo=False,
            opset_version=17, input_names=["x"], output_names=["y"],
        )  # fmt: skip
    optimised = optimizer.optimize_model(
        str(plain), model_type="vit", num_heads=HEADS, hidden_size=WIDTH, opt_level=0
    )
    optimised.save_model_to_file(str(fused))
    return plain, fused


def test_fused_transformer_gives_the_same_gradient(files):
    fused = {node.op_type for node in onnx.load(files[1]).graph.node}
    assert {"Attention", "SkipLayerNormalization", "BiasGelu"} <= fused
    feed = {
        "x": np.random.default_rng(1).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32),
        "cam_target": np.array([4]),
    }
    found = []
    for path in files:
        session = ort.InferenceSession(
            from_onnx(path).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        found.append(session.run(["y", "cam_activation", "cam_gradient"], feed))
    for plain, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, plain, atol=1e-5 * np.abs(plain).max())
    assert found[0][2].shape == (1, WIDTH, SIZE // PATCH, SIZE // PATCH)


def test_causal_attention_is_refused(files):
    model = onnx.load(files[1])
    node = next(node for node in model.graph.node if node.op_type == "Attention")
    del node.attribute[:]
    node.attribute.extend(
        [
            onnx.helper.make_attribute("num_heads", HEADS),
            onnx.helper.make_attribute("unidirectional", 1),
        ]
    )
    with pytest.raises(ModelError, match=r"Attention.*unidirectional.*export from the file before"):
        from_onnx(model)
