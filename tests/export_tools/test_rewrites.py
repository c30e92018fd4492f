"""Rewrites leave the gradient as it is: with and without them, on what each is for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array

from onnxcam_export import emission, from_onnx

RNG = np.random.default_rng(6)
BEGINNING = RNG.bit_generator.state
FLOAT = onnx.TensorProto.FLOAT


@pytest.fixture(autouse=True)
def _same_weights_in_any_order():
    """Each test draws from the beginning: alone, in any order, in any process."""
    RNG.bit_generator.state = BEGINNING


def network(convolutions, head="dense", size=9):
    """Conv and Relu for each of (weights' shape, attributes), then dense or class maps."""
    nodes, weights, value = [], {}, "picture"
    for number, (shape, attributes) in enumerate(convolutions):
        weights[f"w{number}"] = RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        nodes.append(oh.make_node("Conv", [value, f"w{number}"], [f"c{number}"], **attributes))
        value = f"c{number}"
        if head != "linear class maps" or number + 1 < len(convolutions):
            nodes.append(oh.make_node("Relu", [value], [f"r{number}"]))
            value = f"r{number}"
    nodes.append(oh.make_node("GlobalAveragePool", [value], ["pooled"]))
    nodes.append(oh.make_node("Flatten", ["pooled"], ["flat" if head == "dense" else "logits"]))
    channels = convolutions[-1][0][0]
    classes = channels
    if head == "dense":
        classes = 7
        weights["wd"] = RNG.standard_normal((channels, classes))
        nodes.append(oh.make_node("Gemm", ["flat", "wd"], ["logits"], alpha=0.5))
    graph = oh.make_graph(
        nodes,
        "network",
        [oh.make_tensor_value_info("picture", FLOAT, ["batch", 4, size, size])],
        [oh.make_tensor_value_info("logits", FLOAT, ["batch", classes])],
        [from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)


def gradients(model, targets=(0, 3, 5)):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(1).standard_normal((len(targets), 4, 9, 9)).astype(np.float32)
    feed = {"picture": picture, "cam_target": np.array(targets)}
    return session.run(["cam_gradient"], feed)[0]


def emitted(model):
    return Counter(n.op_type for n in model.graph.node if n.name.startswith("cam/"))


CONVOLUTIONS = {
    "3x3": [((8, 4, 3, 3), {"pads": [1] * 4})],
    "no pads": [((8, 4, 3, 2), {})],
    "uneven pads": [((8, 4, 3, 3), {"pads": [0, 1, 2, 1]})],
    "dilated": [((8, 4, 3, 3), {"pads": [2] * 4, "dilations": [2, 2]})],
    "pointwise": [((8, 4, 1, 1), {})],
    "grouped": [((8, 2, 3, 3), {"pads": [1] * 4, "group": 2})],
    "depthwise": [((8, 1, 3, 3), {"pads": [1] * 4, "group": 4})],
    "strided": [((8, 4, 3, 3), {"pads": [1] * 4, "strides": [2, 2]})],
    "wide pads": [((8, 4, 1, 1), {"pads": [1] * 4})],
    "strided depthwise": [((4, 1, 3, 3), {"pads": [1] * 4, "group": 4, "strides": [2, 2]})],
    "strided 5x4": [((4, 1, 5, 4), {"pads": [2, 1, 2, 0], "group": 4, "strides": [2, 2]})],
    "strided dilated": [
        ((4, 1, 3, 3), {"pads": [2] * 4, "group": 4, "strides": [2, 2], "dilations": [2, 2]})
    ],
    "pixels left": [((4, 1, 2, 2), {"group": 4, "strides": [2, 2]})],
    "strided multiplied": [((8, 1, 3, 3), {"pads": [1] * 4, "group": 4, "strides": [2, 2]})],
}
PLAIN = ((4, 4, 3, 3), {"pads": [1] * 4})


@pytest.mark.parametrize("head", ["dense", "class maps", "linear class maps"])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_with_and_without_rewrites_is_the_same(kind, head, monkeypatch):
    plain = network([PLAIN, *CONVOLUTIONS[kind]], head)
    rewritten = from_onnx(plain, "r0")
    monkeypatch.setattr(emission, "REWRITES", ())
    literal = from_onnx(plain, "r0")
    expected, found = (gradients(model, (0, 3, 2)) for model in (literal, rewritten))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("kind", "transposed"),
    [(k, int(k in ("strided", "wide pads", "strided multiplied"))) for k in CONVOLUTIONS],
)
def test_stride_one_or_depthwise_becomes_a_conv(kind, transposed):
    operators = emitted(from_onnx(network([PLAIN, *CONVOLUTIONS[kind]]), "r0"))
    assert operators["ConvTranspose"] == transposed
    assert operators["Conv"] == 1 - transposed


def test_masks_are_factors(monkeypatch):
    model = network([PLAIN, PLAIN])
    # What is left of Where chooses the target.
    assert emitted(from_onnx(model, "r0"))["Where"] == emitted(from_onnx(model, "r1"))["Where"]
    monkeypatch.setattr(emission, "REWRITES", ())
    literal = from_onnx(model, "r0"), from_onnx(model, "r1")
    assert emitted(literal[0])["Where"] == emitted(literal[1])["Where"] + 1


def test_a_mask_hides_an_infinite_slope():
    """The root's derivative at 0 is infinite, the Relu's before it 0: the product would be NaN."""
    torch = pytest.importorskip("torch")
    plain = network([PLAIN, PLAIN])
    (pool,) = (n for n in plain.graph.node if n.op_type == "GlobalAveragePool")
    position = list(plain.graph.node).index(pool)
    plain.graph.node.insert(position, oh.make_node("Sqrt", [pool.input[0]], ["root"]))
    plain.graph.node[position + 1].input[0] = "root"
    found = gradients(from_onnx(plain, "r0"))

    weights = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in plain.graph.initializer}
    picture = np.random.default_rng(1).standard_normal((3, 4, 9, 9)).astype(np.float32)
    convolved = torch.nn.functional.conv2d(torch.tensor(picture), weights["w0"], padding=1)
    layer = convolved.relu().requires_grad_()
    root = torch.nn.functional.conv2d(layer, weights["w1"], padding=1).relu().sqrt()
    scores = 0.5 * root.mean(dim=(2, 3)) @ weights["wd"]
    (expected,) = torch.autograd.grad(scores[[0, 1, 2], [0, 3, 5]].sum(), layer)
    assert (root == 0).any()
    np.testing.assert_allclose(found, expected, atol=2e-5 * expected.abs().max())


def test_flipped_weights_are_not_stored():
    plain = network([PLAIN, ((64, 4, 5, 5), {"pads": [2] * 4})])
    stored = sum(len(t.raw_data) for t in plain.graph.initializer)
    exported = from_onnx(plain, "r0")
    assert sum(len(t.raw_data) for t in exported.graph.initializer) < stored + 4096


def test_class_maps_are_an_outer_product():
    pointwise = ((8, 4, 1, 1), {})
    operators = emitted(from_onnx(network([PLAIN, pointwise], "class maps"), "r0"))
    assert operators["ConvTranspose"] == operators["Conv"] == 0
    assert operators["GatherND"] == 1


def test_an_invalid_target_is_an_error_in_every_rewritten_head():
    for head, layer in (("dense", "r1"), ("class maps", "r0"), ("linear class maps", "r0")):
        model = from_onnx(network([PLAIN, ((8, 4, 1, 1), {})], head), layer)
        with pytest.raises(Exception, match=r"out of data bounds|invalid ind|out of range"):
            gradients(model, (0, 99, 1))
        with pytest.raises(Exception, match=r"out of data bounds|invalid ind|out of range"):
            gradients(model, (0, -2, 1))


def dense_head(*, pool=None, channels_last=False, trans_b=0):
    """Conv, Relu, perhaps MaxPool and Transpose, Flatten, two dense layers."""
    weights = {"w": RNG.standard_normal((6, 4, 3, 3)) / 6}
    nodes = [
        oh.make_node("Conv", ["picture", "w"], ["c"], pads=[1] * 4),
        oh.make_node("Relu", ["c"], ["r"]),
    ]
    value, pixels = "r", 81
    if pool is not None:
        nodes.append(oh.make_node("MaxPool", [value], ["p"], **pool))
        value, pixels = "p", 16
    if channels_last:
        nodes.append(oh.make_node("Transpose", [value], ["t"], perm=[0, 2, 3, 1]))
        value = "t"
    shape = (5, 6 * pixels) if trans_b else (6 * pixels, 5)
    weights |= {"w1": RNG.standard_normal(shape) / 5, "w2": RNG.standard_normal((5, 7))}
    nodes += [
        oh.make_node("Flatten", [value], ["f"]),
        oh.make_node("Gemm", ["f", "w1"], ["d"], transB=trans_b, alpha=0.7),
        oh.make_node("Relu", ["d"], ["rd"]),
        oh.make_node("MatMul", ["rd", "w2"], ["logits"]),
    ]
    graph = oh.make_graph(
        nodes,
        "dense",
        [oh.make_tensor_value_info("picture", FLOAT, ["batch", 4, 9, 9])],
        [oh.make_tensor_value_info("logits", FLOAT, ["batch", 7])],
        [from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)


POOLS = {
    "none": None,
    "max": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "overlapping": {"kernel_shape": [3, 3], "strides": [2, 2]},
}


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("pool", POOLS)
def test_pooled_weights_are_the_mean_of_the_gradient(pool, channels_last, trans_b):
    plain = dense_head(pool=POOLS[pool], channels_last=channels_last, trans_b=trans_b)
    expected = gradients(from_onnx(plain, "r")).mean(axis=(2, 3))
    pooled = from_onnx(plain, "r", emit="weights")
    session = ort.InferenceSession(pooled.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(1).standard_normal((3, 4, 9, 9)).astype(np.float32)
    feed = {"picture": picture, "cam_target": np.array([0, 3, 5])}
    found = session.run(["cam_weights"], feed)[0]
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())
    # The product is with the averaged weights: nothing is scattered, nothing averaged.
    assert not emitted(pooled).keys() & {"ScatterElements", "ReduceMean", "MaxPool"}


def squeezed_and_gated(order, targets=7):
    """Conv, SiLU, squeeze and excitation, dense: each a product of a tensor and a sigmoid."""
    weights = {
        "w0": RNG.standard_normal((6, 4, 3, 3)) / 6,
        "w1": RNG.standard_normal((6, 6, 1, 1)),
        "wd": RNG.standard_normal((6, targets)),
    }
    gate = {"plain": ["c", "s"], "swapped": ["s", "c"]}[order]
    nodes = [
        oh.make_node("Conv", ["picture", "w0"], ["c0"], pads=[1] * 4),
        oh.make_node("Relu", ["c0"], ["r0"]),
        oh.make_node("Conv", ["r0", "w1"], ["c"]),
        oh.make_node("Sigmoid", ["c"], ["s"]),
        oh.make_node("Mul", gate, ["y"]),
        oh.make_node("GlobalAveragePool", ["y"], ["squeezed"]),
        oh.make_node("Sigmoid", ["squeezed"], ["excited"]),
        oh.make_node("Mul", ["excited", "y"], ["z"]),
        oh.make_node("Mul", ["z", "z"], ["zz"]),
        oh.make_node("GlobalAveragePool", ["zz"], ["pooled"]),
        oh.make_node("Flatten", ["pooled"], ["flat"]),
        oh.make_node("MatMul", ["flat", "wd"], ["logits"]),
    ]
    graph = oh.make_graph(
        nodes,
        "gated",
        [oh.make_tensor_value_info("picture", FLOAT, ["batch", 4, 9, 9])],
        [oh.make_tensor_value_info("logits", FLOAT, ["batch", targets])],
        [from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("order", ["plain", "swapped"])
def test_a_gated_sigmoid_is_differentiated_through_its_value(order, monkeypatch):
    plain = squeezed_and_gated(order)
    rewritten = from_onnx(plain, "r0")
    several = from_onnx(plain, "r0", targets=3)
    monkeypatch.setattr(emission, "REWRITES", ())
    literal = from_onnx(plain, "r0")
    expected, found = gradients(literal), gradients(rewritten)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    assert emitted(rewritten)["Mul"] == emitted(literal)["Mul"] - 2
    # What several targets share stands there once: 1 - s of either sigmoid, of which the gated one
    # is written as a HardSigmoid.
    for operator in ("Sub", "HardSigmoid"):
        assert emitted(several)[operator] == emitted(rewritten)[operator] == 1


def test_a_repeated_mean_is_added_without_being_written_out():
    operators = emitted(from_onnx(squeezed_and_gated("plain"), "r0"))
    assert operators["Expand"] == 1  # behind the last pool; not that of the squeeze
