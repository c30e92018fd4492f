"""Quantised models in operator form and with dynamic quantisation, made by onnxruntime's tools."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from onnxcam_export import from_onnx

RNG = np.random.default_rng(3)
PICTURES = RNG.standard_normal((8, 3, 12, 12)).astype(np.float32)


def weights(*shape):
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


@pytest.fixture(scope="module")
def float_model(tmp_path_factory):
    constants = {
        "w1": weights(8, 3, 3, 3), "b1": weights(8, 1)[:, 0], "w2": weights(8, 8, 3, 3),
        "b2": weights(8, 1)[:, 0], "w3": weights(6, 8), "b3": weights(6, 1)[:, 0],
    }  # fmt: skip
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        oh.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", **conv),
        oh.make_node("LeakyRelu", ["c1"], ["layer"], "act1", alpha=0.2),
        oh.make_node("Conv", ["layer", "w2", "b2"], ["c2"], "conv2", **conv),
        oh.make_node("Add", ["c2", "layer"], ["sum"], "add"),
        oh.make_node("Concat", ["sum", "c2"], ["both"], "concat", axis=1),
        oh.make_node("AveragePool", ["both"], ["small"], "pool", **pool),
        oh.make_node("GlobalAveragePool", ["small"], ["mean"], "mean"),
        oh.make_node("Flatten", ["mean"], ["flat"], "flatten"),
        oh.make_node("Gemm", ["flat", "w4", "b3"], ["y"], "dense", transB=1),
    ]
    constants["w4"] = np.concatenate([constants.pop("w3"), weights(6, 8)], axis=1)
    graph = oh.make_graph(
        nodes,
        "net",
        [oh.make_tensor_value_info("x", 1, ["N", 3, 12, 12])],
        [oh.make_tensor_value_info("y", 1, ["N", 6])],
        [onnx.numpy_helper.from_array(a, k) for k, a in constants.items()],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=9)
    path = tmp_path_factory.mktemp("quantised") / "float.onnx"
    onnx.save(model, path)
    return path


class Pictures(CalibrationDataReader):
    def __init__(self):
        self.rest = iter(PICTURES)

    def get_next(self):
        picture = next(self.rest, None)
        return None if picture is None else {"x": picture[None]}


def gradients(proto, picture):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(
        ["y", "cam_gradient"], {"x": picture, "cam_target": np.full(len(picture), 2, np.int64)}
    )


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("per_channel", [False, True])
def test_operator_form_gives_what_qdq_form_gives(float_model, per_channel):
    found = {}
    for form in (QuantFormat.QOperator, QuantFormat.QDQ):
        path = float_model.with_name(f"{form.name}{per_channel}.onnx")
        quantize_static(
            float_model, path, Pictures(), quant_format=form, per_channel=per_channel,
            weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
            reduce_range=True,  # without VNNI, sums of two uint8 * int8 saturate at 16 bits
        )  # fmt: skip
        plain = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        layer = "layer_quantized/real" if form is QuantFormat.QOperator else "layer"
        nodes = {n.op_type for n in onnx.load(path).graph.node}
        assert ("QLinearConv" in nodes) == (form is QuantFormat.QOperator), nodes
        proto = from_onnx(path, layer)
        y, grad = gradients(proto, PICTURES[:2])
        expected = plain.run(None, {"x": PICTURES[:2]})[0]
        np.testing.assert_allclose(y, expected, atol=0.05)  # a level of the output
        found[form] = grad
    # But for where a value at the edge of saturation rounds the other way.
    same = np.isclose(found[QuantFormat.QOperator], found[QuantFormat.QDQ], rtol=1e-4, atol=1e-6)
    assert same.mean() > 0.9
    _, exact = gradients(from_onnx(float_model, "layer"), PICTURES[:2])
    assert correlation(found[QuantFormat.QDQ], exact) > 0.99


def test_dynamic_quantisation_is_straight_through(float_model):
    path = float_model.with_name("dynamic.onnx")
    quantize_dynamic(float_model, path, weight_type=QuantType.QUInt8)
    nodes = {n.op_type for n in onnx.load(path).graph.node}
    assert {"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"} <= nodes
    _, grad = gradients(from_onnx(path, "layer"), PICTURES[:2])
    _, exact = gradients(from_onnx(float_model, "layer"), PICTURES[:2])
    np.testing.assert_allclose(grad, exact, atol=0.02 * np.abs(exact).max())
