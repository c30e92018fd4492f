"""Files of opsets 7 to 17: brought up by onnx's converter, they must compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest

from helpers_gradients import with_gradients

RNG = np.random.default_rng(5)


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


X = real(2, 4, 6, 6)
X += 0.02 * np.sign(X)  # no kink within a step of 0
CHANNELS = [real(4), real(4), real(4), np.abs(real(4)) + 0.5]

# name, opsets, operator, constants behind the input, attributes
CASES = [
    ("spatial", (7, 8), "BatchNormalization", CHANNELS, {}),
    ("", (9, 13, 14), "BatchNormalization", CHANNELS, {}),
    ("ratio attribute", (7, 10), "Dropout", [], {"ratio": 0.4}),
    ("attributes", (7, 10), "Clip", [], {"min": -0.5, "max": 0.7}),
    ("inputs", (11, 13), "Clip", [np.float32(-0.5), np.float32(0.7)], {}),
    ("attribute", (7, 10), "Pad", [], {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "reflect"}),
    ("input", (11, 13), "Pad", [np.array([0, 0, 1, 2, 0, 0, 0, 1])], {}),
    ("attributes", (7, 9), "Slice", [], {"axes": [2, 3], "starts": [1, 0], "ends": [5, -2]}),
    ("inputs", (10, 13), "Slice", [np.array([1]), np.array([9]), np.array([3])], {}),
    ("coerced to rows", (7, 11, 12), "Softmax", [], {"axis": 1}),
    ("", (13,), "Softmax", [], {"axis": 1}),
    ("attribute", (7, 11, 12), "ReduceSum", [], {"axes": [2, 3], "keepdims": 0}),
    ("attribute", (7, 11, 13, 17), "ReduceMean", [], {"axes": [2, 3]}),
    ("attribute", (7, 11, 13, 17), "ReduceMax", [], {"axes": [1], "keepdims": 0}),
    ("attribute", (7, 11, 12), "Squeeze", [], {"axes": []}),
    ("attribute", (7, 11, 12), "Unsqueeze", [], {"axes": [0]}),
    ("attribute", (7, 11, 12), "Split", [], {"axis": 1, "split": [1, 3]}),
    ("nearest", (7, 8), "Upsample", [], {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "nearest"}),
    ("nearest", (9,), "Upsample", [np.float32([1, 1, 2, 2])], {"mode": "nearest"}),
    ("nearest, by half", (9,), "Upsample", [np.float32([1, 1, 1.5, 1.5])], {"mode": "nearest"}),
    ("linear, by half", (10,), "Resize", [np.float32([1, 1, 1.5, 2.5])], {"mode": "linear"}),
    ("linear", (9,), "Upsample", [np.float32([1, 1, 2, 2])], {"mode": "linear"}),
    ("first form", (10,), "Resize", [np.float32([1, 1, 2, 2])], {"mode": "nearest"}),
    ("", (7, 10, 11), "MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ("", (7, 10, 11), "AveragePool", [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("", (7, 11), "Conv", [real(3, 4, 3, 3)], {"pads": [1, 1, 1, 1]}),
    ("", (7, 11), "ConvTranspose", [real(4, 3, 3, 3)], {"strides": [2, 2]}),
    ("", (7, 11, 13), "Concat", [real(2, 1, 6, 6)], {"axis": 1}),
    ("", (7, 9, 11), "Flatten", [], {"axis": 1}),
    ("", (7, 9, 16), "PRelu", [np.abs(real(4, 1, 1))], {}),
    ("", (7, 13), "LRN", [], {"size": 3}),
    ("", (7, 12), "Gather", [np.array([2, 0])], {"axis": 1}),
    ("", (7, 13), "DepthToSpace", [], {"blocksize": 2}),
    ("", (7, 13), "Elu", [], {}),
]


def plain(opset, op_type, constants, attributes):
    shape = (2, 1, 6, 6) if attributes.get("axes") == [] else X.shape
    attributes = {**attributes, "axes": [1]} if attributes.get("axes") == [] else attributes
    names = [f"c{i}" for i in range(len(constants))]
    outputs = ["y0", "y1"] if op_type == "Split" else ["y0"]
    graph = oh.make_graph(
        [oh.make_node(op_type, ["x0", *names], outputs, "node", **attributes)],
        "old",
        [oh.make_tensor_value_info("x0", 1, shape)],
        [oh.make_tensor_value_info(name, 1, None) for name in outputs],
        [
            onnx.numpy_helper.from_array(np.asarray(a), n)
            for n, a in zip(names, constants, strict=True)
        ],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", opset)], ir_version=8), shape


def session(model):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("opset", "op_type", "constants", "attributes"),
    [
        pytest.param(opset, *rest, id=f"{rest[0]} {note} opset {opset}")
        for note, opsets, *rest in CASES
        for opset in opsets
    ],
)
def test_older_file_computes_the_same_and_has_its_gradient(opset, op_type, constants, attributes):
    model, shape = plain(opset, op_type, constants, attributes)
    x = X[:, :1] if shape != X.shape else X
    running = session(model)
    expected = running.run(None, {"x0": x})
    derived = session(with_gradients(model, ["x0"]))
    rng = np.random.default_rng(1)
    seeds = {
        f"v{i}": rng.standard_normal(y.shape).astype(np.float32) for i, y in enumerate(expected)
    }
    results = derived.run(None, {"x0": x, **seeds})
    for y, other in zip(expected, results, strict=False):
        np.testing.assert_allclose(other, y, rtol=1e-5, atol=1e-6)
    grad = results[-1]
    # along a random direction, by the old file itself; float32, so with a large step
    direction = rng.standard_normal(shape)

    def total(step):
        ys = running.run(None, {"x0": (x + step * direction).astype(np.float32)})
        return sum(float((y.astype(np.float64) * seeds[f"v{i}"]).sum()) for i, y in enumerate(ys))

    numerical = (total(1e-3) - total(-1e-3)) / 2e-3
    products = (grad * direction).astype(np.float64)
    assert abs(products.sum() - numerical) < 0.05 * np.sqrt((products**2).sum())
