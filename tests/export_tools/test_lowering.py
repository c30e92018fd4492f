"""Fused and quantised operators against onnxruntime's own kernels for them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxcam.errors import ModelError
from onnxcam_export import from_onnx
from onnxcam_export.lowering import LOWERINGS, lower

RNG = np.random.default_rng(11)
MS = "com.microsoft"


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def quantised(array, dtype=np.uint8):
    """Integers, scale and zero point that cover the array.

    Of int8 (weights) seven bits: without VNNI onnxruntime adds two uint8 * int8 in 16 bits.
    """
    low, high = (-64, 63) if dtype == np.int8 else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    scale = np.float32((array.max() - array.min()) / (high - low))
    zero = np.array(round(low - array.min() / scale), dtype)
    return [np.clip(np.round(array / scale) + int(zero), low, high).astype(dtype), scale, zero]


X, X4 = real(2, 3, 8), real(2, 4, 6, 6)
CONV = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
W, B = real(5, 4, 3, 3) / 6, real(5)
Q4, QX = quantised(X4), quantised(real(6, 8))
OUT = [np.float32(0.05), np.uint8(120)]


def q_bias(q_input, q_weight, count):
    return (real(count) / (q_input[1] * q_weight[1])).astype(np.int32)


QW, QM = quantised(W, np.int8), quantised(real(8, 5), np.int8)

# operator, domain, inputs, attributes
CASES = [
    *[
        ("FusedConv", MS, [X4, W, B], {**CONV, "activation": name, **parameters})
        for name, parameters in [
            ("Relu", {}), ("Tanh", {}), ("Sigmoid", {}),
            ("LeakyRelu", {"activation_params": [0.3]}),
            ("Clip", {"activation_params": [-0.5, 0.6]}),
            ("HardSigmoid", {"activation_params": [0.3, 0.4]}),
        ]
    ],
    ("FusedConv", MS, [X4, W, B, real(2, 5, 6, 6)], {**CONV, "activation": "Relu"}),
    ("FusedGemm", MS, [real(4, 5), real(3, 5), real(3)],
     {"transB": 1, "alpha": 0.7, "activation": "LeakyRelu", "activation_alpha": 0.2}),
    ("FusedMatMul", MS, [real(2, 4, 3), real(2, 5, 4)], {"transA": 1, "transB": 1, "alpha": 0.5}),
    ("TransposeMatMul", MS, [real(2, 4, 3), real(2, 4, 5)], {"transA": 1}),
    ("Gelu", MS, [X], {}),
    ("BiasGelu", MS, [X, real(8)], {}),
    ("FastGelu", MS, [X], {}),
    ("FastGelu", MS, [X, real(8)], {}),
    ("QuickGelu", MS, [X], {"alpha": 1.5}),
    ("SkipLayerNormalization", MS, [X, real(2, 3, 8), *real(3, 8)], {"epsilon": 1e-3}),
    ("SkipSimplifiedLayerNormalization", MS, [X, real(2, 3, 8), real(8)], {"epsilon": 1e-3}),
    ("SimplifiedLayerNormalization", "", [X, real(8)], {"axis": -1, "epsilon": 1e-3}),
    ("Attention", MS, [X, real(8, 24) / 2, real(24)], {"num_heads": 2}),
    ("Attention", MS, [X, real(8, 20) / 2, real(20), None, None, real(2, 2, 3, 3)],
     {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4], "scale": 0.3}),
    ("MultiHeadAttention", MS, [X, real(2, 5, 8), real(2, 5, 12)], {"num_heads": 2}),
    ("MultiHeadAttention", MS, [X, real(2, 3, 8), real(2, 3, 8), real(24), None, real(1, 2, 3, 3)],
     {"num_heads": 2, "scale": 0.7}),
    ("MultiHeadAttention", MS, [X, real(2, 2, 5, 4), real(2, 2, 5, 4)], {"num_heads": 2}),
    # quantised
    ("QLinearConv", "", [*Q4, *QW, *OUT, q_bias(Q4, QW, 5)], CONV),
    ("QLinearConv", MS, [*Q4, *QW, *OUT], CONV),
    ("QLinearMatMul", "", [*QX, *QM, *OUT], {}),
    ("QGemm", MS, [*QX, *QM, q_bias(QX, QM, 5), *OUT], {}),
    ("QLinearAdd", MS, [*QX, *quantised(real(6, 8)), *OUT], {}),
    ("QLinearMul", MS, [*QX, *quantised(real(6, 8)), *OUT], {}),
    ("QLinearLeakyRelu", MS, [*QX, *OUT], {"alpha": 0.2}),
    ("QLinearSigmoid", MS, [*QX, np.float32(1 / 256), np.uint8(0)], {}),
    ("QLinearSoftmax", MS, [*QX, np.float32(1 / 256), np.uint8(0)], {"axis": -1, "opset": 13}),
    ("QLinearAveragePool", MS, [*Q4, *OUT], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("QLinearGlobalAveragePool", MS, [*Q4, np.float32(0.005), np.uint8(120)], {}),
    ("QLinearConcat", MS, [*OUT, *QX, *quantised(real(6, 3))], {"axis": 1}),
]  # fmt: skip


def model_of(op_type, domain, inputs, attributes):
    names = ["" if a is None else f"x{i}" for i, a in enumerate(inputs)]
    dtypes = [0 if a is None else oh.np_dtype_to_tensor_dtype(np.asarray(a).dtype) for a in inputs]
    # The first tensor is the input, the rest are constants, as weights and scales are.
    first = next(i for i, a in enumerate(inputs) if np.ndim(a) > 0)
    node = oh.make_node(op_type, names, ["y"], "node", domain=domain, **attributes)
    integers = dtypes[first] != onnx.TensorProto.FLOAT
    result = onnx.TensorProto.UINT8 if integers else onnx.TensorProto.FLOAT
    graph = oh.make_graph(
        [node],
        "one",
        [oh.make_tensor_value_info(names[first], dtypes[first], inputs[first].shape)],
        [oh.make_tensor_value_info("y", result, None)],
        [
            onnx.numpy_helper.from_array(np.asarray(a), n)
            for i, (n, a) in enumerate(zip(names, inputs, strict=True))
            if i != first and a is not None
        ],
    )
    opsets = [oh.make_opsetid("", 18), oh.make_opsetid(MS, 1)]
    return oh.make_model(graph, opset_imports=opsets, ir_version=9), {names[first]: inputs[first]}


def run(model, feed, optimised=True):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, feed)[0]


@pytest.mark.parametrize("optimised", [True, False])
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[1]}.{c[0]}")
def test_lowered_operator_computes_what_the_kernel_computes(case, optimised):
    model, feed = model_of(*case)
    expected = run(model, feed)
    lowered = ir.from_proto(model)
    lower(lowered)
    assert not {n.op_type for n in lowered.graph} & {case[0]}
    assert lowered.graph.outputs[0].name == "y"
    assert lowered.graph.outputs[0].shape == ir.Shape(expected.shape)
    actual = run(ir.to_proto(lowered), feed, optimised)
    if expected.dtype == np.uint8:
        assert np.ptp(expected) > 20
        assert np.abs(actual.astype(int) - expected).max() <= 1
    else:
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5)


def test_every_lowering_has_a_case():
    # QLinearReduceMean has no kernel in today's onnxruntime.
    missing = set(LOWERINGS) - {(c[1], c[0]) for c in CASES}
    assert missing <= {(MS, "QLinearReduceMean")}, missing


def optimisable_network():
    """Convolutions, a residual block, and a transformer's block behind them."""
    constants = {
        "w1": real(8, 3, 3, 3) / 4, "b1": real(8), "w2": real(8, 8, 3, 3) / 8, "b2": real(8),
        "w3": real(8, 8, 3, 3) / 8, "b3": real(8), "shape": np.array([0, 8, -1]),
        "gamma": real(8), "beta": real(8), "w4": real(8, 16) / 3, "b4": real(16),
        "w5": real(16, 8) / 4, "b5": real(8), "two": np.float32(np.sqrt(2)), "one": np.float32(1),
        "half": np.float32(0.5), "axes": np.array([1]), "w6": real(5, 8), "b6": real(5),
        "low": np.float32(0), "high": np.float32(6),
    }  # fmt: skip
    make = oh.make_node
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["c1"], **CONV),
        make("Clip", ["c1", "low", "high"], ["r1"]),
        make("Conv", ["r1", "w2", "b2"], ["c2"], **CONV),
        make("LeakyRelu", ["c2"], ["r2"], alpha=0.1),
        make("Conv", ["r2", "w3", "b3"], ["c3"], **CONV),
        make("Add", ["c3", "r1"], ["s3"]),
        make("Relu", ["s3"], ["layer"]),
        make("Reshape", ["layer", "shape"], ["flat"]),
        make("Transpose", ["flat"], ["tokens"], perm=[0, 2, 1]),
        make("LayerNormalization", ["tokens", "gamma", "beta"], ["n1"]),
        make("MatMul", ["n1", "w4"], ["m1"]),
        make("Add", ["m1", "b4"], ["a1"]),
        make("Div", ["a1", "two"], ["d1"]),
        make("Erf", ["d1"], ["e1"]),
        make("Add", ["e1", "one"], ["f1"]),
        make("Mul", ["a1", "f1"], ["g1"]),
        make("Mul", ["g1", "half"], ["gelu"]),
        make("MatMul", ["gelu", "w5"], ["m2"]),
        make("Add", ["m2", "b5"], ["a2"]),
        make("Add", ["a2", "tokens"], ["sum"]),
        make("LayerNormalization", ["sum", "gamma", "beta"], ["n2"]),
        make("ReduceMean", ["n2", "axes"], ["mean"], keepdims=0),
        make("Gemm", ["mean", "w6", "b6"], ["y"], transB=1),
    ]
    graph = oh.make_graph(
        nodes,
        "net",
        [oh.make_tensor_value_info("x", 1, ["N", 3, 8, 8])],
        [oh.make_tensor_value_info("y", 1, ["N", 5])],
        [onnx.numpy_helper.from_array(np.asarray(a), k) for k, a in constants.items()],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)


def optimised_file(model, path, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return onnx.load(path)


def test_file_optimised_by_onnxruntime_gives_the_same_gradient(tmp_path):
    model = optimisable_network()
    path = tmp_path / "optimised.onnx"
    optimised = optimised_file(model, path, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    fused = {n.op_type for n in optimised.graph.node if n.domain == MS}
    assert {"FusedConv", "SkipLayerNormalization"} <= fused and fused & {"Gelu", "BiasGelu"}, fused
    feed = {"x": real(2, 3, 8, 8), "cam_target": np.array([1, -1])}
    found = []
    for source in (model, path):
        proto = from_onnx(source, "layer")
        assert not any(n.domain == MS for n in proto.graph.node)
        session = ort.InferenceSession(proto.SerializeToString(), None, ["CPUExecutionProvider"])
        found.append(session.run(["y", "cam_activation", "cam_gradient"], feed))
    for plain, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, plain, rtol=1e-3, atol=1e-5 * np.abs(plain).max())


def test_layout_for_one_processor_is_refused(tmp_path):
    model = optimisable_network()
    path = tmp_path / "all.onnx"
    optimised = optimised_file(model, path, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    if not any("nchwc" in n.domain for n in optimised.graph.node):
        pytest.skip("onnxruntime has no blocked layout on this processor")
    with pytest.raises(ModelError, match="ORT_ENABLE_EXTENDED"):
        from_onnx(path)


def test_an_if_with_a_fixed_condition_becomes_its_branch():
    def branch(op_type):
        node = oh.make_node(op_type, ["x"], ["inner"])
        return oh.make_graph([node], op_type, [], [oh.make_tensor_value_info("inner", 1, None)])

    nodes = [
        oh.make_node(
            "If", ["yes"], ["y"], "if", then_branch=branch("Tanh"), else_branch=branch("Sin")
        ),
        oh.make_node(
            "If", ["no"], ["z"], "if2", then_branch=branch("Tanh"), else_branch=branch("Sin")
        ),
    ]
    graph = oh.make_graph(
        nodes,
        "ifs",
        [oh.make_tensor_value_info("x", 1, [2, 3])],
        [oh.make_tensor_value_info(name, 1, [2, 3]) for name in "yz"],
        [
            onnx.numpy_helper.from_array(np.array(True), "yes"),
            onnx.numpy_helper.from_array(np.array(False), "no"),
        ],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)
    x = real(2, 3)
    lowered = ir.from_proto(model)
    lower(lowered)
    assert [n.op_type for n in lowered.graph] == ["Tanh", "Sin"]
    session = ort.InferenceSession(
        ir.to_proto(lowered).SerializeToString(), None, ["CPUExecutionProvider"]
    )
    y, z = session.run(["y", "z"], {"x": x})
    np.testing.assert_allclose(y, np.tanh(x), rtol=1e-5)
    np.testing.assert_allclose(z, np.sin(x), rtol=1e-5)
