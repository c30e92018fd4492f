"""The frameworks' names for layers in files that others exported."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest
import torch
from torch import nn

from helpers_tokens import autograd, older_export
from onnxcam.cli import main
from onnxcam.contract import METADATA_KEY, Contract
from onnxcam.errors import LayerError
from onnxcam_export import from_onnx
from onnxcam_export.layers import Layers
from onnxcam_export.loading import prepare
from onnxcam_export.score import find_score

TARGETS = [4, 1]


class Stage(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Sequential(nn.GELU(), nn.Conv2d(channels, channels, 1)),
        )
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x + self.blocks(x))


class Staged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.stages = nn.ModuleList([Stage(6), Stage(6)])
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


def staged() -> tuple[Staged, torch.Tensor]:
    torch.manual_seed(0)
    return Staged().eval(), torch.randn(2, 3, 9, 11)


def dynamo_export(module: nn.Module, x: torch.Tensor) -> onnx.ModelProto:
    program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    return onnx.load_model_from_string(program.model_proto.SerializeToString())


@pytest.fixture(scope="module")
def by_dynamo() -> onnx.ModelProto:
    return dynamo_export(*staged())


def run(model: onnx.ModelProto, x: torch.Tensor) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy(), "cam_target": np.array(TARGETS)}
    return session.run(["cam_activation", "cam_gradient"], feed)


NAMES = [
    "stages.1",
    "stages.0.act",
    "stages.1.blocks",
    "stages.0.blocks.0",
    "stages.1.blocks.1.0",
    "stages.0.blocks.1.1",
    "stem.2",
]


def assert_is_the_module(model: onnx.ModelProto, name: str) -> None:
    module, x = staged()
    explained = from_onnx(model, name)
    for found, expected in zip(run(explained, x), autograd(module, name, x, TARGETS), strict=True):
        assert found.shape == expected.shape
        assert np.abs(expected).max() > 0
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    text = next(p.value for p in explained.metadata_props if p.key == METADATA_KEY)
    assert Contract.loads(text).layer.name == name


@pytest.mark.parametrize("name", NAMES)
def test_module_paths_in_files_of_torchs_older_exporter(name):
    assert_is_the_module(older_export(*staged()), name)


@pytest.mark.parametrize("name", NAMES)
def test_module_paths_in_files_of_torchs_dynamo_exporter(name, by_dynamo):
    assert_is_the_module(by_dynamo, name)


def test_a_folded_norm_is_said(by_dynamo):
    """Where only the weight tells the name, the batch norm behind it may be inside."""
    for model in (older_export(*staged()), by_dynamo):
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        for index, node in enumerate(bare.graph.node):
            node.name = f"n{index}"
            del node.metadata_props[:]
        graph = prepare(bare).graph
        names = [t for t in graph.initializers if t.endswith(".weight")]
        assert names, "the exporter keeps the names of weights"
        layers = Layers(graph, find_score(graph, "logit").value)
        assert "batch norm" in layers.find("stages.0.blocks.0").note


def test_unknown_names_suggest_the_frameworks_own():
    with pytest.raises(LayerError, match=r"stages\.1\.blocks"):
        from_onnx(older_export(*staged()), "stages.1.block")


def keras_file() -> onnx.ModelProto:
    """Nodes named as tf2onnx names them: model/layer/operator, chained by semicolons."""
    rng = np.random.default_rng(0)
    weights = {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (6, 5), "b2": (5,)}
    nodes = [
        oh.make_node("Transpose", ["picture"], ["t"], "model/block1_conv/Conv2D__6",
                     perm=[0, 3, 1, 2]),
        oh.make_node("Conv", ["t", "w1", "b1"], ["c"],
                     "model/block1_conv/BiasAdd;model/block1_conv/Conv2D"),
        oh.make_node("Relu", ["c"], ["r"], "model/block1_relu/Relu"),
        oh.make_node("GlobalAveragePool", ["r"], ["g"], "model/avg_pool/Mean"),
        oh.make_node("Flatten", ["g"], ["f"], "model/avg_pool/Mean_Squeeze__10"),
        oh.make_node("Gemm", ["f", "w2", "b2"], ["scores"], "model/predictions/BiasAdd"),
    ]  # fmt: skip
    graph = oh.make_graph(
        nodes,
        "tf2onnx",
        [oh.make_tensor_value_info("picture", onnx.TensorProto.FLOAT, ["n", 9, 11, 3])],
        [oh.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["n", 5])],
        [
            onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(("name", "tensor"), [("block1_conv", "c"), ("block1_relu", "r")])
def test_layer_names_in_files_of_tf2onnx(name, tensor):
    explained = from_onnx(keras_file(), name)
    text = next(p.value for p in explained.metadata_props if p.key == METADATA_KEY)
    assert Contract.loads(text).layer.tensor == tensor
    assert Contract.loads(text).layer.name == name


@pytest.mark.parametrize(
    ("make", "listed"),
    [
        (lambda: older_export(*staged()), ["stages.1.act", "stages.0.blocks.1.0"]),
        (keras_file, ["block1_relu", "block1_conv"]),
    ],
)
def test_inspect_lists_the_names(make, listed, tmp_path, capsys):
    path = tmp_path / "net.onnx"
    onnx.save(make(), path)
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    for name in listed:
        assert name in printed
    default = next(line for line in printed.splitlines() if line.strip().startswith("*"))
    assert listed[0] in default or "stages.1" in default
