"""Gathers of everything, in order, become Reshapes; all others stay and are differentiated."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest
from onnx import TensorProto
from onnx.numpy_helper import from_array

from helpers_gradients import with_gradients
from onnxcam_export.loading import prepare
from onnxcam_export.ordered_gather import Positions

CHANNELS = 4
COLUMNS = (0, 1, 2, 3)


def gathering(
    *,
    row: int = CHANNELS,
    columns: tuple[int, ...] = COLUMNS,
    start: int = 0,
    step: int = 1,
    count_of: str = "x0",
    count: str = "Squeeze",
    batch: int | str | None = "batch",
    channels: int | None = CHANNELS,
) -> onnx.ModelProto:
    """y0 = flat[row * Range(start, N, step)[:, None] + columns], as torch.onnx writes as_strided.

    `flat` is x0 [batch, channels] made flat, or x0 [batch] itself; N is the length of x0 or of a
    further input `other` [others].
    """
    arrays = {"start": start, "step": step, "row": row, "zero": 0, "axes": [1], "all": [-1]}
    if count == "Squeeze":
        counted = [
            oh.make_node("Shape", [count_of], ["size"], start=0, end=1),
            oh.make_node("Squeeze", ["size"], ["count"]),
        ]
    else:
        counted = [
            oh.make_node("Shape", [count_of], ["size"]),
            oh.make_node("Gather", ["size", "zero"], ["count"]),
        ]
    flat = "x0" if channels is None else "flat"
    nodes = [
        *counted,
        oh.make_node("Range", ["start", "count", "step"], ["range"]),
        oh.make_node("Mul", ["row", "range"], ["rows"]),
        oh.make_node("Unsqueeze", ["rows", "axes"], ["column"]),
        oh.make_node("Add", ["column", "columns"], ["positions"]),
        *([] if channels is None else [oh.make_node("Reshape", ["x0", "all"], ["flat"])]),
        oh.make_node("Gather", [flat, "positions"], ["y0"], axis=0),
    ]
    double = TensorProto.DOUBLE
    shape = [batch] if channels is None else [batch, channels]
    inputs = [oh.make_tensor_value_info("x0", double, shape)]
    if count_of == "other":
        inputs.append(oh.make_tensor_value_info("other", double, ["others"]))
    arrays["columns"] = [columns]
    graph = oh.make_graph(
        nodes,
        "gathering",
        inputs,
        [oh.make_tensor_value_info("y0", double, [None, len(columns)])],
        [from_array(np.array(array, np.int64), name) for name, array in arrays.items()],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in prepare(model).graph]


IN_ORDER = {
    "torch": {},
    "length gathered": {"count": "Gather"},
    "fixed batch": {"batch": 3},
    "already flat": {"channels": None, "row": 1, "columns": (0,)},
}
OTHERS = {
    "columns first": {"row": 1, "columns": (0, 5, 10, 15)},
    "overlapping": {"row": 1},
    "one row": {"row": 0},
    "one column": {"columns": (2, 2, 2, 2)},
    "backwards": {"columns": COLUMNS[::-1]},
    "no line": {"columns": (0, 1, 3, 2)},
    "fewer columns": {"columns": COLUMNS[:3]},
    "second column": {"columns": (1,)},
    "another start": {"start": 1},
    "another step": {"step": 2},
    "another batch": {"count_of": "other"},
    "nameless batch": {"batch": None},
}


@pytest.mark.parametrize("options", IN_ORDER.values(), ids=IN_ORDER)
def test_everything_in_order_is_a_reshape(options):
    assert operators(gathering(**options)) == ["Reshape"]


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_other_gathers_stay(options):
    assert "Gather" in operators(gathering(**options))


@pytest.mark.parametrize("options", (IN_ORDER | OTHERS).values(), ids=IN_ORDER | OTHERS)
def test_values_and_derivative_are_those_of_the_positions(options):
    """The derivative of what is picked several times is the sum."""
    length = options.get("batch") or 6
    length = length if isinstance(length, int) else 6
    random = np.random.default_rng(0)
    shape = [length] if options.get("channels", 0) is None else [length, CHANNELS]
    feed = {"x0": random.standard_normal(shape)}
    counted = length
    if options.get("count_of") == "other":
        counted = 4
        feed["other"] = np.zeros(counted)
    rows = np.arange(options.get("start", 0), counted, options.get("step", 1))
    positions = options.get("row", CHANNELS) * rows[:, None] + options.get("columns", COLUMNS)
    feed["v0"] = random.standard_normal(positions.shape)
    expected = np.zeros(feed["x0"].size)
    np.add.at(expected, positions, feed["v0"])

    model = with_gradients(gathering(**options), ["x0"])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, dx = session.run(["y0", "dx0"], feed)
    np.testing.assert_array_equal(y, feed["x0"].reshape(-1)[positions])
    np.testing.assert_allclose(dx, expected.reshape(shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_reshape_does_for_every_batch(batch):
    model = with_gradients(gathering(), ["x0"])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x, dy = np.random.default_rng(batch).standard_normal((2, batch, CHANNELS))
    y, dx = session.run(["y0", "dx0"], {"x0": x, "v0": dy})
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dx, dy)


def test_an_output_of_the_model_keeps_its_name():
    graph = prepare(gathering()).graph
    assert [value.name for value in graph.outputs] == ["y0"]
    assert graph.outputs[0].producer().op_type == "Reshape"


def test_the_shape_of_channels_last_pooling_in_torch():
    """Of ConvNeXt and Swin: a mean over the picture after a permutation, and what follows."""
    torch = pytest.importorskip("torch")
    from onnxcam_export import from_torch

    class ChannelsLast(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Conv2d(3, 6, 3)
            self.norm = torch.nn.LayerNorm(6)
            self.head = torch.nn.Linear(6, 5)

        def forward(self, picture):
            tokens = self.norm(self.features(picture).permute(0, 2, 3, 1))
            pooled = torch.nn.functional.adaptive_avg_pool2d(tokens.permute(0, 3, 1, 2), 1)
            return self.head(torch.flatten(pooled, 1))

    torch.manual_seed(0)
    module = ChannelsLast().eval()
    model = from_torch(module, torch.zeros(1, 3, 8, 8), "features")
    found = {node.op_type for node in model.graph.node}
    assert not found & {"Range", "ScatterND", "ScatterElements"}, found
    pictures = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (gradient,) = session.run(
        ["cam_gradient"], {"picture": pictures, "cam_target": np.array([0, 3, 4])}
    )
    activation = module.features(torch.from_numpy(pictures)).detach().requires_grad_()
    tokens = module.norm(activation.permute(0, 2, 3, 1))
    scores = module.head(tokens.mean((1, 2)))
    scores[[0, 1, 2], [0, 3, 4]].sum().backward()
    np.testing.assert_allclose(gradient, activation.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.array(7),
        np.array([[5]]),
        7 + 10 * np.arange(2)[:, None, None] + 3 * np.arange(4),
    ],
    ids=["in order", "scalar", "one", "line"],
)
def test_arrays_of_positions_are_described_exactly(array):
    found = Positions.of_array(array)
    grids = np.indices(array.shape)
    rebuilt = found.start + sum(
        stride * grid for stride, grid in zip(found.strides, grids, strict=True)
    )
    np.testing.assert_array_equal(rebuilt, array)
    assert found.sizes == array.shape


@pytest.mark.parametrize(
    "array",
    [
        np.array([0, 1, 3]),
        np.array([[0, 1], [2, 4]]),
        np.array([-1, 0, 1]),
        np.array([0, 2**40]),
        np.array([0.0, 1.0]),
        np.zeros(0, np.int64),
    ],
    ids=["no line", "corner", "negative", "large", "floats", "empty"],
)
def test_other_arrays_are_not(array):
    assert Positions.of_array(array) is None
