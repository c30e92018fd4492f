"""The low road, Engine.maps: tensors in, maps out; PyTorch's autograd is the oracle."""

from __future__ import annotations

import threading

import numpy as np
import onnx
import pytest
import torch

from helpers_explaining import CHANNELS, CLASSES, SIDE, HandMade
from helpers_methods import ORACLES
from onnxcam import Engine
from onnxcam.errors import InputError, MethodError, TargetError

MADE = HandMade()
TENSOR = np.random.default_rng(2).normal(size=(4, 3, SIDE, SIDE)).astype(np.float32)


@pytest.fixture(scope="module")
def engine():
    return Engine(MADE.bytes())


def by_autograd(made: HandMade, tensor, targets) -> tuple[np.ndarray, np.ndarray]:
    """Activation and gradient [N, C, h, w], float64, of the same network in PyTorch."""
    w = {name: torch.from_numpy(value).double() for name, value in made.weights.items()}
    x = torch.from_numpy(tensor).double()
    activation = torch.relu(torch.conv2d(x, w["kernel"], w["bias"], padding=1)).detach()
    activation.requires_grad_()
    scores = activation.flatten(1) @ w["dense"].T
    if made.score == "probability":
        scores = scores.softmax(1)
    best = scores.argmax(1)
    chosen = torch.tensor([int(b) if t == -1 else t for t, b in zip(targets, best, strict=True)])
    scores[torch.arange(len(x)), chosen].sum().backward()
    return activation.detach().numpy(), activation.grad.numpy()


def expected_raw(made, tensor, targets, method="gradcam"):
    activation, gradient = by_autograd(made, tensor, targets)
    flat = (len(tensor), CHANNELS, -1)
    maps = [
        ORACLES[method](a, g)
        for a, g in zip(activation.reshape(flat), gradient.reshape(flat), strict=True)
    ]
    return np.reshape(maps, (len(tensor), SIDE, SIDE))


def finished(raw):
    positive = np.maximum(raw, 0)
    highest = positive.max(axis=(-2, -1), keepdims=True)
    return np.divide(positive, highest, out=np.zeros_like(positive), where=highest > 0)


@pytest.mark.parametrize("method", ORACLES)
@pytest.mark.parametrize("targets", [[-1] * 4, [0, 1, 2, 4]])
def test_every_method(engine, method, targets):
    raw = expected_raw(MADE, TENSOR, targets, method)
    found = engine.maps(TENSOR, targets, method, signed=True)
    np.testing.assert_allclose(found, raw, atol=1e-5 * np.abs(raw).max())
    found = engine.maps(TENSOR, targets, method)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, finished(raw), atol=1e-5)


def test_probability():
    made = HandMade(kind="softmax", score="probability", weight_scale=0.1)
    raw = expected_raw(made, TENSOR, [0, 1, 2, -1])
    found = Engine(made.bytes()).maps(TENSOR, [0, 1, 2, -1], signed=True)
    np.testing.assert_allclose(found, raw, atol=1e-5 * np.abs(raw).max())


@pytest.mark.parametrize("emit", ["weights", "heatmap"])
def test_other_emits(engine, emit):
    other = Engine(MADE.but(emit=emit).bytes())
    np.testing.assert_allclose(
        other.maps(TENSOR, [3, 2, 1, 0]), engine.maps(TENSOR, [3, 2, 1, 0]), atol=1e-5
    )
    told = "emits the finished heatmap" if emit == "heatmap" else "needs the gradient.*'weights'"
    with pytest.raises(MethodError, match=f"'layercam'.* {told}"):
        other.maps(TENSOR, method="layercam")
    with pytest.raises(MethodError, match="layercam"):
        Engine(MADE.but(emit=emit).bytes(), method="layercam")


def test_signed_of_a_finished_map():
    with pytest.raises(MethodError, match="signed"):
        Engine(MADE.but(emit="heatmap").bytes()).maps(TENSOR, signed=True)


def test_several_targets(engine):
    several = Engine(MADE.but(targets="several").bytes())
    targets = np.array([[0, 1, 2], [2, 3, -1], [4, 4, 0], [1, 0, 3]])
    found = several.maps(TENSOR, targets)
    assert found.shape == (4, 3, SIDE, SIDE)
    for k in range(3):
        np.testing.assert_allclose(found[:, k], engine.maps(TENSOR, targets[:, k]), atol=1e-6)
    assert several.maps(TENSOR).shape == (4, 1, SIDE, SIDE)
    with pytest.raises(TargetError, match=r"\[4, K\]"):
        several.maps(TENSOR, [0, 1, 2, 3])


def test_one_index_for_all(engine):
    np.testing.assert_array_equal(engine.maps(TENSOR, 2), engine.maps(TENSOR, [2] * 4))


def test_without_target_input(engine):
    always = Engine(MADE.but(targets="none").bytes())
    np.testing.assert_allclose(always.maps(TENSOR), engine.maps(TENSOR), atol=1e-6)
    with pytest.raises(TargetError, match="always explains the highest score"):
        always.maps(TENSOR, [0, 1, 2, 3])


@pytest.mark.parametrize("changes", [{"layout": "NHWC"}, {"dtype": "float16"}, {"batch": 4}])
def test_inputs_of_other_kinds(engine, changes):
    tensor = TENSOR.transpose(0, 2, 3, 1) if "layout" in changes else TENSOR
    tensor = tensor.astype(changes.get("dtype", "float32"))  # not contiguous, for NHWC
    found = Engine(MADE.but(**changes).bytes()).maps(tensor, 1)
    np.testing.assert_allclose(found, engine.maps(TENSOR, 1), atol=5e-3)


def test_out(engine):
    out = np.full((4, SIDE, SIDE), 9, np.float32)
    assert engine.maps(TENSOR, out=out) is out
    np.testing.assert_array_equal(out, engine.maps(TENSOR))
    for wrong in (out[:3], out.astype(np.float64), out[..., ::-1], [1]):
        with pytest.raises(InputError, match="out: expected"):
            engine.maps(TENSOR, out=wrong)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (TENSOR.astype(np.float64), "float64"),
        (TENSOR[0], r"\[3, 6, 6\]"),
        (TENSOR[..., :5], r"\[4, 3, 6, 5\]"),
        (TENSOR * np.float32(np.nan), "NaN"),
        (TENSOR[:0], "empty"),
    ],
)
def test_wrong_tensor(engine, tensor, message):
    with pytest.raises(InputError, match=message):
        engine.maps(tensor)


@pytest.mark.parametrize("targets", [[0, 1, 2, CLASSES], [-2, 0, 0, 0], [0], [0.5] * 4])
def test_wrong_targets(engine, targets):
    with pytest.raises(TargetError):
        engine.maps(TENSOR, targets)


def test_classes_that_the_file_does_not_say(engine):
    """With an open class axis the range is only known from a run."""
    from onnx import TensorProto, helper, numpy_helper

    model = MADE.model()
    graph = model.graph
    graph.node[-1].output[0] = "closed"
    assert graph.node[-1].op_type == "Identity"
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "batch_axis"))
    for op, inputs, output, attributes in (
        ("ReduceSumSquare", ["closed", "batch_axis"], "squares", {"keepdims": 0}),
        ("Cast", ["squares"], "any", {"to": TensorProto.BOOL}),
        ("Compress", ["closed", "any"], "scores", {"axis": 1}),
    ):
        graph.node.append(helper.make_node(op, inputs, [output], **attributes))
    scores = next(output for output in graph.output if output.name == "scores")
    scores.type.tensor_type.shape.dim[1].dim_param = "classes"
    silent = Engine(model.SerializeToString())
    assert silent.model.classes is None
    np.testing.assert_array_equal(silent.maps(TENSOR, 2), engine.maps(TENSOR, 2))
    with pytest.raises(TargetError, match="target 5: expected 0 to 4"):
        silent.maps(TENSOR, 5)


def test_all_negative_and_non_finite_maps_are_zero():
    made = HandMade()
    made.weights["dense"][:] = -np.abs(made.weights["dense"])
    assert not Engine(made.bytes()).maps(TENSOR).any()
    made.weights["dense"][:] = np.inf
    engine = Engine(made.bytes())
    assert not engine.maps(TENSOR, 1).any()
    assert not np.isfinite(engine.maps(TENSOR, 1, signed=True)).all()


@pytest.mark.parametrize("spatial", [(9,), (3, 4, 5)])
def test_one_and_three_spatial_axes(spatial):
    """The layer is the input itself, the score a weighted sum of it."""
    from onnx import TensorProto, helper, numpy_helper

    from onnxcam.contract import Contract, Layer, Output, Picture

    random = np.random.default_rng(0)
    weight = random.normal(size=(2, *spatial)).astype(np.float32)
    nodes = [
        helper.make_node("Identity", ["x"], ["cam_activation"]),
        helper.make_node("Identity", ["w"], ["cam_gradient"]),
        helper.make_node("Mul", ["x", "w"], ["product"]),
        helper.make_node("ReduceSum", ["product", "axes"], ["score"], keepdims=0),
    ]
    shape = [1, 2, *spatial]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "sum",
        [info("x", TensorProto.FLOAT, shape)],
        [
            info("score", TensorProto.FLOAT, [1]),
            info("cam_activation", TensorProto.FLOAT, shape),
            info("cam_gradient", TensorProto.FLOAT, shape),
        ],
        [
            numpy_helper.from_array(weight[None], "w"),
            numpy_helper.from_array(np.arange(1, len(shape)), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    contract = Contract(
        layers=(Layer("x"),), output=Output("score", "raw"), picture=Picture("x", "float32", "NCHW")
    )
    x = random.normal(size=shape).astype(np.float32)
    found = Engine(model.SerializeToString(), contract=contract).maps(x, signed=True)
    expected = np.tensordot(weight.reshape(2, -1).mean(axis=1), x[0], 1)
    np.testing.assert_allclose(found, expected[None], atol=1e-5)


def test_threads_share_an_engine(engine):
    expected = [engine.maps(TENSOR, target) for target in range(CLASSES)]
    wrong = []

    def work(target):
        for _ in range(20):
            if not np.array_equal(engine.maps(TENSOR, target), expected[target]):
                wrong.append(target)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(CLASSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
