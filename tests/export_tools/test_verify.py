"""`--verify` holds for everything that can be exported, and finds what is wrong in any part."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import pytest
import torch

from helpers_onnx import small_network
from onnxcam.errors import ExportError
from onnxcam_export.assemble import build
from onnxcam_export.sources import onnx_file, pytorch
from onnxcam_export.verify import verify, verify_each


def class_map(batch="batch") -> onnx.ModelProto:
    """The small network up to its last activation, as an output [N, 6, 8, 8]."""
    plain = small_network(batch=batch)
    del plain.graph.node[5:]
    info = oh.make_tensor_value_info("relu2", onnx.TensorProto.FLOAT, [batch, 6, 8, 8])
    plain.graph.output[0].CopyFrom(info)
    return plain


def unsaturated(**options) -> onnx.ModelProto:
    """The small network with small logits: float32 keeps the digits of p (1 - p)."""
    plain = small_network(**options)
    for tensor in plain.graph.initializer:
        if tensor.name in ("w3", "b3"):
            small = onnx.numpy_helper.to_array(tensor) / 10
            tensor.CopyFrom(onnx.numpy_helper.from_array(small, tensor.name))
    return plain


CASES = {
    "targets": (small_network(), {"targets": 4, "layer": "relu1"}, 3),
    "one target in a row": (small_network(), {"targets": 1}, 1),
    "layers": (small_network(), {"layer": ["relu2", "conv1"]}, 2),
    "weights": (small_network(), {"layer": "pool1", "emit": "weights"}, 1),
    "all": (
        unsaturated(final="Softmax"),
        {"layer": ["relu2", "pool1"], "emit": "weights", "targets": 2, "score": "probability"},
        4,
    ),
    "region": (class_map(), {"layer": "relu1", "score_of": "region"}, 1),
    "element": (class_map(3), {"layer": "relu1", "score_of": "element", "targets": 2}, 2),
    "dot": (small_network(), {"score_of": "dot"}, 1),
    "cosine": (small_network(), {"score_of": "cosine", "layer": "conv2"}, 1),
    "sigmoid": (unsaturated(), {"score": "probability", "activation": "sigmoid"}, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_export_is_verified(case):
    plain, options, count = CASES[case]
    source = onnx_file.capture(plain)
    found = verify_each(build(source, **options), source)
    assert len(found) == count
    for each in found:
        assert each.error < 1e-4, each.lines()
        assert np.abs(each.graph).max() > 0


def doubled(built, name: str, k: int | None = None):
    """The same file with one output (or its target k) twice as large."""
    model = built.model
    node = next(n for n in model.graph.node if name in n.output)
    node.output[0] = "right"
    factor = np.full(1, 2, np.float32)
    if k is not None:
        shape = model.graph.output[-1].type.tensor_type.shape.dim
        factor = np.ones((1, shape[1].dim_value, *[1] * (len(shape) - 2)), np.float32)
        factor[:, k] = 2
    model.graph.initializer.append(onnx.numpy_helper.from_array(factor, "factor"))
    model.graph.node.append(oh.make_node("Mul", ["right", "factor"], [name]))
    return built


@pytest.mark.parametrize(
    ("options", "name", "k", "message"),
    [
        ({"layer": ["relu2", "conv1"]}, "cam_gradient_1", None, "layer 'conv1', against"),
        ({"emit": "weights"}, "cam_weights", None, "DIFFERS"),
        ({"targets": 3}, "cam_gradient", 1, "class 0, against"),
        ({"targets": 3}, "cam_gradient", 2, "class 1, against"),
    ],
)
def test_what_is_wrong_is_found_and_named(options, name, k, message):
    source = onnx_file.capture(small_network())
    built = build(source, **options)
    assert verify(built, source).agrees
    with pytest.raises(ExportError, match=message):
        verify(doubled(built, name, k), source)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 5, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(45, 4),
    )  # fmt: skip


@pytest.mark.parametrize("emit", ["gradient", "weights"])
def test_each_layer_against_its_own_autograd(module, emit):
    """The layers that PyTorch knows against PyTorch, a tensor of the graph numerically."""
    source = pytorch.capture(module, torch.zeros(1, 3, 12, 12), ["2", "4"])
    relu = next(node.output[0] for node in source.model.graph.node if node.op_type == "Relu")
    built = build(source, layer=["4", relu, "2"], targets=2, emit=emit)
    found = verify_each(built, source)
    assert ["torch" in each.oracle for each in found] == [True, True, False, False, True, True]
    assert max(each.error for each in found) < 1e-4
    assert [layer.tensor for layer in built.contract.layers] == ["4", relu, "2"]
    with pytest.raises(ExportError, match="layer '2', class 0, against torch's autograd"):
        verify(doubled(built, f"cam_{emit}_2", 1), source)


def test_without_names_the_captured_layers_are_explained(module):
    source = pytorch.capture(module, torch.zeros(1, 3, 12, 12), ["4", "2"])
    assert [layer.name for layer in build(source).layers] == ["4", "2"]
