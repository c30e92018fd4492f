"""Small plain ONNX networks with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx.numpy_helper import from_array

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

needs_shared_data = pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason="the folder ../shared/data with real models is not here"
)


def small_network(
    *,
    final: str | None = None,
    batch: int | str = "batch",
    size: int | str = 16,
    classes: int = 5,
    opset: int = 18,
    extra: tuple[onnx.NodeProto, ...] = (),
    pooled: str = "pooled",
) -> onnx.ModelProto:
    """Conv, Relu, MaxPool, Conv, Relu, GlobalAveragePool, Flatten, Gemm, and `final` if any.

    `extra` nodes may read `relu2` and make a tensor `pooled` that takes the place of it.
    """
    rng = np.random.default_rng(3)
    weights = {
        "w1": rng.standard_normal((4, 3, 3, 3)) * 0.3,
        "b1": rng.standard_normal(4) * 0.1,
        "w2": rng.standard_normal((6, 4, 3, 3)) * 0.3,
        "w3": rng.standard_normal((classes, 6)),
        "b3": rng.standard_normal(classes),
    }
    nodes = [
        oh.make_node("Conv", ["picture", "w1", "b1"], ["conv1"], name="conv1_node", pads=[1] * 4),
        oh.make_node("Relu", ["conv1"], ["relu1"], name="relu1_node"),
        oh.make_node(
            "MaxPool", ["relu1"], ["pool1"], name="pool1_node", kernel_shape=[2, 2], strides=[2, 2]
        ),
        oh.make_node("Conv", ["pool1", "w2"], ["conv2"], name="conv2_node", pads=[1] * 4),
        oh.make_node("Relu", ["conv2"], ["relu2"], name="relu2_node"),
        *extra,
        oh.make_node("GlobalAveragePool", ["relu2"], ["pooled"], name="pool2_node"),
        oh.make_node("Flatten", [pooled], ["flat"], name="flat_node"),
        oh.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], name="dense_node", transB=1),
    ]
    output = "logits"
    if final:
        output = "scores"
        nodes.append(oh.make_node(final, ["logits"], [output], name="final_node"))
    float32 = onnx.TensorProto.FLOAT
    graph = oh.make_graph(
        nodes,
        "small",
        [oh.make_tensor_value_info("picture", float32, [batch, 3, size, size])],
        [oh.make_tensor_value_info(output, float32, [batch, classes])],
        [from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    imports = [oh.make_opsetid("", opset), oh.make_opsetid("custom.domain", 1)]
    return oh.make_model(graph, opset_imports=imports, ir_version=9)


def torch_small_network(model: onnx.ModelProto):
    """The same network in torch: picture, layer -> that layer's activation and the logits."""
    import torch
    import torch.nn.functional as F

    weights = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in model.graph.initializer}

    def run(picture, layer="relu2"):
        kept = {}

        def keep(name, value):
            if name == layer:
                value.requires_grad_(True) if value.is_leaf else value.retain_grad()
                kept[name] = value
            return value

        x = torch.tensor(picture, requires_grad=True)
        x = keep("conv1", F.conv2d(x, weights["w1"], weights["b1"], padding=1))
        x = keep("relu1", F.relu(x))
        x = keep("pool1", F.max_pool2d(x, 2))
        x = keep("conv2", F.conv2d(x, weights["w2"], padding=1))
        x = keep("relu2", F.relu(x))
        logits = F.linear(x.mean(dim=(2, 3)), weights["w3"], weights["b3"])
        return kept[layer], logits

    return run
