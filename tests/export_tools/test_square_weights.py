"""Square weights that the model and its gradient read in two ways, run on another runtime too.

OpenVINO packs weights once per address and shape; gradients were wrong there, and only there, when
a square weight was read as it is stored and transposed from the same place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest
from onnx import NodeProto, TensorProto
from onnx.numpy_helper import from_array

from onnxcam_export import from_onnx

CHANNELS, SIDE, CLASSES, BATCH = 32, 8, 10, 2
RANDOM = np.random.default_rng(23)
node = oh.make_node
Body = tuple[list[NodeProto], dict[str, np.ndarray]]


def weight(*shape: int) -> np.ndarray:
    return (RANDOM.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def convolution(
    kernel: int, op_type: str = "Conv", weights: np.ndarray | None = None, **attributes: Any
) -> Body:
    pads = [kernel // 2] * 4 if kernel % 2 else [0] * 4
    nodes = [
        node(op_type, ["layer", "w"], ["made"], pads=pads, **attributes),
        node("Relu", ["made"], ["body"]),
    ]
    return nodes, {"w": weight(CHANNELS, CHANNELS, kernel, kernel) if weights is None else weights}


def quantized(body: Body, of_layer: bool = False) -> Body:
    """The same with an int8 weight, and with the layer in uint8 where a Conv reads it."""
    nodes, arrays = body
    whole = np.round(arrays["w"] / 0.005).clip(-127, 127).astype(np.int8)
    rest = {name: array for name, array in arrays.items() if name != "w"}
    rest |= {"w8": whole, "scale": np.float32(0.005), "zero": np.int8(0)}
    before = [node("DequantizeLinear", ["w8", "scale", "zero"], ["w"])]
    if of_layer:
        rest |= {"x_scale": np.float32(0.02), "x_zero": np.uint8(0)}
        before += [
            node("QuantizeLinear", ["layer", "x_scale", "x_zero"], ["whole"]),
            node("DequantizeLinear", ["whole", "x_scale", "x_zero"], ["real"]),
        ]
        nodes[0].input[0] = "real"
    return [*before, *nodes], rest


def tokens(*middle: NodeProto, **weights: np.ndarray) -> Body:
    """`middle` makes `made` of `tokens` [N, SIDE * SIDE, CHANNELS]."""
    nodes = [
        node("Reshape", ["layer", "flat"], ["rows"]),
        node("Transpose", ["rows"], ["tokens"], perm=[0, 2, 1]),
        *middle,
        node("Relu", ["made"], ["active"]),
        node("Transpose", ["active"], ["back"], perm=[0, 2, 1]),
        node("Reshape", ["back", "square"], ["body"]),
    ]
    shapes = {"flat": np.array([0, 0, -1]), "square": np.array([0, 0, SIDE, SIDE])}
    return nodes, shapes | weights


def hidden_layer(trans_b: int) -> Body:
    nodes = [
        node("GlobalAveragePool", ["layer"], ["pooled"]),
        node("Flatten", ["pooled"], ["row"]),
        node("Gemm", ["row", "w"], ["hidden"], transB=trans_b),
        node("Relu", ["hidden"], ["active"]),
        node("Unsqueeze", ["active", "axes"], ["body"]),
    ]
    return nodes, {"w": weight(CHANNELS, CHANNELS), "axes": np.array([2, 3])}


def dense(**changed: Any) -> Body:
    return tokens(
        node("MatMul", ["tokens", "w"], ["made"]), **{"w": weight(CHANNELS, CHANNELS)} | changed
    )


READ_BOTH_WAYS = {
    "1x1 of stride 2": lambda: convolution(1, strides=[2, 2]),
    "3x3 of stride 2": lambda: convolution(3, strides=[2, 2]),
    "5x5 of stride 2": lambda: convolution(5, strides=[2, 2]),
    "groups": lambda: convolution(
        3, weights=weight(CHANNELS, CHANNELS // 4, 3, 3), group=4, strides=[2, 2]
    ),
    "ConvTranspose": lambda: convolution(3, "ConvTranspose"),
    "ConvTranspose of stride 2": lambda: convolution(2, "ConvTranspose", strides=[2, 2]),
    "Gemm": lambda: hidden_layer(0),
    "Gemm of the transpose": lambda: hidden_layer(1),
    "Einsum": lambda: tokens(
        node("Einsum", ["tokens", "w"], ["made"], equation="bij,jk->bik"),
        w=weight(CHANNELS, CHANNELS),
    ),
    "MatMul": lambda: tokens(
        node("MatMul", ["tokens", "w"], ["first"]),
        node("Tanh", ["first"], ["made"]),
        w=weight(CHANNELS, CHANNELS),
    ),
    "MatMul of the transpose": lambda: tokens(
        node("Transpose", ["w"], ["across"], perm=[1, 0]),
        node("MatMul", ["tokens", "across"], ["first"]),
        node("Tanh", ["first"], ["made"]),
        w=weight(CHANNELS, CHANNELS),
    ),
    "MatMul of rank 3": lambda: dense(w=weight(1, CHANNELS, CHANNELS)),
    "int8 weight of a Conv": lambda: quantized(convolution(3, strides=[2, 2])),
    "int8 weight of a MatMul": lambda: quantized(dense()),
    "int8 Conv": lambda: quantized(convolution(3, strides=[2, 2]), of_layer=True),
}
READ_IN_ONE_WAY = {
    "flipped into a Conv": lambda: convolution(1),
    "depthwise": lambda: convolution(
        5, weights=weight(CHANNELS, 1, 5, 5), group=CHANNELS, strides=[2, 2]
    ),
    "not square": lambda: convolution(
        3, weights=weight(CHANNELS * 2, CHANNELS, 3, 3), strides=[2, 2]
    ),
    "weight on the left": lambda: tokens(
        node("MatMul", ["w", "tokens"], ["made"]), w=weight(SIDE * SIDE, SIDE * SIDE)
    ),
}


def network(body: Body) -> onnx.ModelProto:
    """A layer, the body, the mean over space, and a classifier."""
    nodes, arrays = body
    width = next((a.shape[0] for a in arrays.values() if a.ndim == 4 and a.shape[1] > 1), CHANNELS)
    arrays = arrays | {"stem": weight(CHANNELS, 3, 3, 3), "head": weight(CLASSES, width)}
    graph = oh.make_graph(
        [
            node("Conv", ["x", "stem"], ["stemmed"], pads=[1] * 4),
            node("Relu", ["stemmed"], ["layer"]),
            *nodes,
            node("GlobalAveragePool", ["body"], ["pooled_body"]),
            node("Flatten", ["pooled_body"], ["features"]),
            node("Gemm", ["features", "head"], ["logits"], transB=1),
        ],
        "network",
        [oh.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [oh.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)


def explaining(body: Body) -> onnx.ModelProto:
    return from_onnx(network(body), "layer")


def values(model: onnx.ModelProto) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What is fed to a model, and what onnxruntime's CPU provider makes of it."""
    feeds = {
        "x": RANDOM.standard_normal((BATCH, 3, SIDE, SIDE)).astype(np.float32),
        "cam_target": np.arange(3, 3 + BATCH),
    }
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return feeds, dict(zip(names, session.run(names, feeds), strict=True))


def parted(model: onnx.ModelProto) -> int:
    """How many tensors are reversed and reversed back."""
    sliced = {each.output[0] for each in model.graph.node if each.op_type == "Slice"}
    return sum(each.op_type == "Slice" and each.input[0] in sliced for each in model.graph.node)


@pytest.mark.parametrize(
    "made", (READ_BOTH_WAYS | READ_IN_ONE_WAY).values(), ids=READ_BOTH_WAYS | READ_IN_ONE_WAY
)
def test_openvino_agrees(made):
    openvino = pytest.importorskip("openvino")
    model = explaining(made())
    feeds, expected = values(model)
    core = openvino.Core()
    read = core.read_model(model=model.SerializeToString())
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(feeds)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * np.abs(array).max())


@pytest.mark.parametrize("made", READ_BOTH_WAYS.values(), ids=READ_BOTH_WAYS)
def test_a_weight_read_both_ways_is_parted_without_growing_the_file(made):
    body = made()
    model = explaining(body)
    assert parted(model) == 1
    largest = max(array.nbytes for array in body[1].values())
    grown = model.ByteSize() - network(body).ByteSize()
    assert grown < largest + 8000  # the classifier's gradient and the contract


@pytest.mark.parametrize("made", READ_IN_ONE_WAY.values(), ids=READ_IN_ONE_WAY)
def test_a_weight_read_in_one_way_is_left_alone(made):
    assert parted(explaining(made())) == 0
