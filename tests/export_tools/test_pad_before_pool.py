"""Exported files give the same results whether onnxruntime optimises them or not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array

from helpers_onnx import small_network
from onnxcam_export import from_onnx

PICTURES = np.random.default_rng(7).standard_normal((2, 3, 16, 16)).astype(np.float32)


def padded_network(between: str | None = None, opset: int = 18, **pad) -> onnx.ModelProto:
    """The small network whose first pool reads values below zero behind a Pad."""
    plain = small_network(opset=opset)
    graph = plain.graph
    bias = next(t for t in graph.initializer if t.name == "b1")
    bias.CopyFrom(from_array(np.full(4, -9, np.float32), "b1"))
    graph.initializer.append(from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads"))
    pool = next(n for n in graph.node if n.op_type == "MaxPool")
    place = list(graph.node).index(pool)
    graph.node.insert(place, oh.make_node("Pad", ["conv1", "pads"], ["padded"], **pad))
    pool.input[0] = "padded"
    if between:
        graph.node.insert(place + 1, oh.make_node(between, ["padded"], ["same"]))
        pool.input[0] = "same"
    return plain


def both_ways(model: onnx.ModelProto) -> list[list[np.ndarray]]:
    """All outputs, with every optimisation and with none."""
    found = []
    for level in ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL"):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        feed = {"picture": PICTURES}
        if len(session.get_inputs()) > 1:
            feed["cam_target"] = np.array([1, -1])
        found.append(session.run(None, feed))
    return found


def expected_pool(plain: onnx.ModelProto) -> np.ndarray:
    import torch
    import torch.nn.functional as F

    weights = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in plain.graph.initializer}
    conv = F.conv2d(torch.tensor(PICTURES), weights["w1"], weights["b1"], padding=1)
    return F.max_pool2d(F.pad(conv, (1, 1, 1, 1)), 2).numpy()


@pytest.mark.parametrize("between", [None, "Identity", "Dropout"])
@pytest.mark.parametrize("opset", [11, 18])
def test_a_pad_before_a_max_pool_stays_a_pad_of_zeros(between, opset):
    plain = padded_network(between, opset)
    model = from_onnx(plain, "pool1")
    optimised, unoptimised = both_ways(model)
    for a, b in zip(optimised, unoptimised, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
    names = [o.name for o in model.graph.output]
    activation = optimised[names.index("cam_activation")]
    assert (activation[:, :, 0] == 0).all()  # the zeros win over what is negative
    np.testing.assert_allclose(activation, expected_pool(plain), atol=1e-5)


def test_other_pads_are_left_alone():
    for plain in (padded_network(mode="reflect"), small_network()):
        pads = [n for n in from_onnx(plain, "conv2").graph.node if n.op_type == "Pad"]
        assert all(len(n.input) < 4 for n in pads)


@pytest.mark.parametrize("final", [None, "Softmax", "Sigmoid"])
@pytest.mark.parametrize("layer", ["relu2", "pool1", "relu1", "conv1"])
def test_optimised_and_unoptimised_agree(final, layer):
    optimised, unoptimised = both_ways(from_onnx(small_network(final=final), layer))
    for a, b in zip(optimised, unoptimised, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
