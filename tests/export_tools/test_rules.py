"""Every row of the table against central differences in float64, over its variants."""

from __future__ import annotations

import numpy as np
import pytest

from helpers_gradients import Case, directional_errors
from onnxcam_export.gradient.rules import RULES, refused

RNG = np.random.default_rng(7)


def real(*shape):
    """Distinct values of both signs, none near 0, so that no kink lies within a step."""
    values = RNG.permutation(np.linspace(0.15, 2.4, int(np.prod(shape)) if shape else 1))
    values += RNG.uniform(0, 1e-3, values.shape)
    return (values * RNG.choice([-1, 1], values.shape)).reshape(shape)


def positive(*shape):
    return np.abs(real(*shape))


def ints(*values):
    return np.array(values, np.int64)


def unary(name, make=real, note="", **attributes):
    return Case(name, (make(2, 3, 4),), attributes, note=note)


X = real(2, 3, 7, 6)
CONV = {"kernel_shape": [3, 3]}

CASES = [
    *[unary(n) for n in "Neg Abs Exp Reciprocal Erf Sin Cos Identity".split()],
    *[unary(n) for n in "Relu LeakyRelu Elu Selu Sigmoid Tanh Softplus HardSigmoid".split()],
    *[unary(n, positive) for n in ("Log", "Sqrt")],
    unary("LeakyRelu", note="alpha", alpha=0.3),
    unary("Elu", note="alpha", alpha=0.5),
    unary("HardSigmoid", note="alpha", alpha=0.3, beta=0.4),
    Case("HardSwish", (4 * real(2, 3, 4),)),
    Case("Gelu", (real(2, 3, 4),), opset=20),
    Case("Gelu", (real(2, 3, 4),), {"approximate": "tanh"}, opset=20, note="tanh"),
    Case("Mish", (real(2, 3, 4),)),
    Case("Swish", (real(2, 3, 4),), {"alpha": 1.3}, opset=24, in_onnxruntime=False),
    Case("PRelu", (real(2, 3, 4), positive(3, 1)), note="per channel"),
    *[unary(n, note=f"axis {axis}", axis=axis) for n in ("Softmax", "LogSoftmax") for axis in (-1, 1)],
    # arithmetic and its broadcasting
    *[
        Case(n, (real(2, 3, 4), real(*other)), note=str(other))
        for n in ("Add", "Sub", "Mul", "Div", "Max", "Min")
        for other in ((2, 3, 4), (3, 1), (1, 3, 4), (4,), ())
    ],
    Case("Add", (real(3, 1), real(2, 3, 4)), note="first broadcast"),
    Case("Pow", (positive(2, 3), real(3))),
    Case("Pow", (real(2, 3), np.array(2.0)), constants=(1,), note="square"),
    Case("Mod", (real(2, 3), positive(2, 3) + 3), {"fmod": 1}, active=(0,)),
    Case("Sum", (real(2, 3), real(3), real(2, 1))),
    Case("Mean", (real(2, 3), real(3), real(2, 1))),
    Case("Max", (real(2, 3), real(3), real(2, 1)), note="three"),
    Case("Where", (np.array([[True], [False]]), real(2, 3), real(3))),
    Case("Clip", (real(2, 3, 4), np.array(-1.0), np.array(1.3)), constants=(1, 2)),
    Case("Clip", (real(2, 3, 4), np.array(0.0)), constants=(1,), note="one side"),
    Case("Clip", (real(2, 3, 4), None, np.array(0.4)), constants=(2,), note="upper side"),
    Case("Cast", (real(2, 3),), {"to": 11}, in_onnxruntime=False),
    Case("CastLike", (real(2, 3), real(1)), constants=(1,)),
    Case("Dropout", (real(2, 3),)),
    # dense
    *[
        Case("Gemm", (real(*((5, 4) if ta else (4, 5))), real(*((3, 5) if tb else (5, 3))), real(3)),
             {"transA": ta, "transB": tb, "alpha": 0.7, "beta": 1.3}, note=f"transA {ta} transB {tb}")
        for ta in (0, 1)
        for tb in (0, 1)
    ],
    Case("Gemm", (real(4, 5), real(5, 3)), note="no bias"),
    *[
        Case("MatMul", (real(*a), real(*b)), note=f"{a} {b}")
        for a, b in [((4, 5), (5, 3)), ((2, 4, 5), (5, 3)), ((2, 4, 5), (2, 5, 3)), ((2, 1, 4, 5), (3, 5, 2)),
                     ((5,), (5, 3)), ((4, 5), (5,)), ((5,), (5,)), ((2, 4, 5), (5,)), ((5,), (2, 5, 3))]
    ],
    # convolution
    *[
        Case("Conv", (X, real(4, 3, 3, 3), real(4)), a, active=(0, 2), constants=(1,), note=note)
        for note, a in {
            "valid": {},
            "pads": {"pads": [1, 0, 2, 1]},
            "strides": {"strides": [2, 3], "pads": [1, 1, 1, 1]},
            "strides, pixels never read": {"strides": [3, 2]},
            "dilations": {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
            "same upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
            "same lower": {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
            "auto valid": {"auto_pad": "VALID", "strides": [2, 1]},
        }.items()
    ],
    Case("Conv", (X, real(6, 1, 3, 3)), {"group": 3, "pads": [1, 1, 1, 1]}, (0,), (1,), note="depthwise",
         in_reference=False),
    Case("Conv", (real(1, 4, 5, 5), real(6, 2, 1, 1)), {"group": 2}, (0,), (1,), note="grouped 1x1",
         in_reference=False),
    Case("Conv", (real(2, 3, 9), real(4, 3, 3)), {"strides": [2]}, (0,), (1,), note="1-D"),
    Case("Conv", (real(1, 2, 5, 4, 5), real(3, 2, 2, 2, 3)), {"strides": [2, 1, 2], "pads": [1, 0, 1, 0, 1, 1]},
         (0,), (1,), note="3-D"),
    Case("Conv", (X, real(4, 3, 3, 3)), {"pads": [1, 0, 1, 2], "strides": [2, 2]}, (0,), (1,), dynamic=True,
         note="open size"),
    *[
        Case("ConvTranspose", (real(1, 3, 4, 5), real(3, 2, 3, 3)), a, (0,), (1,), note=note)
        for note, a in {
            "plain": {},
            "strides": {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
            "dilations": {"dilations": [2, 1], "pads": [1, 0, 0, 1]},
            "output shape": {"strides": [2, 2], "output_shape": [9, 11]},
        }.items()
    ],
    # pooling
    *[
        # onnx's reference MaxPool gives wrong indices for the default strides
        Case(n, (X,), {"kernel_shape": [3, 2], **a}, note=note, in_reference=note != "overlapping")
        for n in ("MaxPool", "AveragePool")
        for note, a in {
            "overlapping": {},
            "strides": {"strides": [3, 2]},
            "pads": {"strides": [2, 1], "pads": [1, 0, 1, 1]},
            "ceil": {"strides": [2, 2], "ceil_mode": 1},
            "same": {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        }.items()
    ],
    Case("AveragePool", (X,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
         note="count_include_pad"),
    Case("AveragePool", (X,), {"kernel_shape": [7, 6]}, note="whole"),
    Case("MaxPool", (real(2, 3, 9),), {"kernel_shape": [3], "strides": [2]}, note="1-D"),
    Case("MaxPool", (X,), {"kernel_shape": [2, 2], "strides": [2, 2]}, dynamic=True, note="open size"),
    Case("AveragePool", (real(1, 2, 4, 5, 6),), {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}, note="3-D"),
    Case("GlobalAveragePool", (X,)),
    Case("GlobalAveragePool", (X,), dynamic=True, note="open size"),
    Case("GlobalMaxPool", (X,)),
    # reductions
    *[
        Case(n, (positive(2, 3, 4), ints(*axes)), {"keepdims": keep}, note=f"{axes} keep {keep}")
        for n in "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
        "ReduceLogSum ReduceLogSumExp".split()
        for axes, keep in (((1,), 1), ((-1, 0), 0))
    ],
    Case("ReduceMean", (real(2, 3, 4),), {"keepdims": 0}, note="all axes"),
    Case("ReduceMean", (real(2, 3, 4), ints(1, 2)), dynamic=True, note="open size"),
    # normalisation
    Case("BatchNormalization", (X, real(3), real(3), real(3), positive(3)), {"epsilon": 1e-3}, (0,), (1, 2, 3, 4)),
    Case("BatchNormalization", (X, real(3), real(3), real(3), positive(3)), active=(0,), note="not constant"),
    Case("LayerNormalization", (real(2, 3, 4), real(4), real(4)), {"axis": -1}, (0,), (1, 2)),
    Case("LayerNormalization", (real(2, 3, 4), real(3, 4)), {"axis": 1, "epsilon": 1e-2}, (0,), (1,), note="axis 1"),
    Case("InstanceNormalization", (X, real(3), real(3)), {"epsilon": 1e-3}, (0,), (1, 2)),
    # layout
    Case("Reshape", (real(2, 3, 4), ints(2, -1)), constants=(1,)),
    Case("Reshape", (real(2, 3, 4), ints(4, 6)), constants=(1,), dynamic=True, note="open size"),
    Case("Flatten", (real(2, 3, 4),)),
    Case("Squeeze", (real(2, 1, 4), ints(1)), constants=(1,)),
    Case("Unsqueeze", (real(2, 4), ints(1, 3)), constants=(1,)),
    Case("Transpose", (real(2, 3, 4),), {"perm": [1, 2, 0]}),
    Case("Transpose", (real(2, 3, 4),), note="default"),
    Case("Concat", (real(2, 3), real(2, 1), real(2, 4)), {"axis": 1}),
    Case("Concat", (real(2, 3), real(4, 3)), {"axis": -2}, dynamic=True, note="open size"),
    Case("Split", (real(2, 6), ints(1, 3, 2)), {"axis": 1}, outputs=3, constants=(1,)),
    Case("Split", (real(2, 6),), {"axis": 1, "num_outputs": 2}, outputs=2, note="equal"),
    Case("Pad", (real(2, 3), ints(1, 0, 2, 3), np.array(0.5)), constants=(1, 2)),
    Case("Pad", (real(2, 3, 4), ints(1, 2), None, ints(-1)), constants=(1, 3), note="axes"),
    Case("Slice", (real(4, 6), ints(1, -4), ints(3, 100)), constants=(1, 2)),
    Case("Slice", (real(4, 6), ints(1), ints(6), ints(1), ints(2)), constants=(1, 2, 3, 4), note="step"),
    Case("Slice", (real(4, 6), ints(-1), ints(-100), ints(1), ints(-2)), constants=(1, 2, 3, 4), note="backwards"),
    Case("Gather", (real(3, 5), ints(4, 0, 0)), {"axis": 1}, constants=(1,)),
    Case("Gather", (real(3, 5, 2), np.array(2)), {"axis": 1}, constants=(1,), note="scalar"),
    Case("Gather", (real(3, 5, 2), np.array([[0, 2], [2, 1]])), {"axis": 0}, constants=(1,), note="matrix"),
    Case("Gather", (real(3, 5), ints(1, 2, 3)), {"axis": 1}, constants=(1,), note="run"),
    Case("Expand", (real(3, 1), ints(2, 3, 4)), constants=(1,)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_rule_agrees_with_central_differences(case):
    errors = directional_errors(case)
    assert errors, "nothing was compared"
    assert max(errors.values()) < 1e-6, errors


def test_every_rule_has_a_case():
    elsewhere = {("", "QuantizeLinear"), ("", "DequantizeLinear")}  # below, against torch
    rules = {key for key in RULES if key not in refused.TABLE} - elsewhere
    covered = {(case.domain, case.op_type) for case in CASES}
    assert rules - covered == set()
    assert covered - rules == set()


def test_negative_pads_agree_with_torch():
    """onnx's reference evaluator cannot pad by a negative number; torch and onnxruntime can."""
    torch = pytest.importorskip("torch")
    import onnx
    import onnxruntime as ort

    from helpers_gradients import forward_model, with_gradients

    x = real(4, 5)
    case = Case("Pad", (x, ints(-1, 2, 0, -2)), constants=(1,))
    proto = with_gradients(forward_model(case, onnx.TensorProto.FLOAT), ["x0"])
    seed = RNG.standard_normal((3, 5)).astype(np.float32)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (actual,) = session.run(["dx0"], {"x0": x.astype(np.float32), "v0": seed})
    tensor = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    padded = torch.nn.functional.pad(tensor, (2, -2, -1, 0))
    (padded * torch.tensor(seed)).sum().backward()
    np.testing.assert_array_equal(actual, tensor.grad.numpy())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_quantisation_is_straight_through_as_in_torch(per_channel, dtype):
    torch = pytest.importorskip("torch")
    import onnx
    import onnx.helper as oh
    import onnxruntime as ort

    from helpers_gradients import with_gradients

    limits = np.iinfo(dtype)
    scale = np.array([0.01, 0.02, 0.005] if per_channel else 0.01, np.float32)
    zero = np.array([3, 0, 17] if per_channel else 12, dtype)
    x = real(2, 3, 4, 5).astype(np.float32)
    arguments = {"axis": 1} if per_channel else {}
    nodes = [
        oh.make_node("QuantizeLinear", ["x0", "scale", "zero"], ["q"], **arguments),
        oh.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y0"], **arguments),
    ]
    graph = oh.make_graph(
        nodes,
        "quantised",
        [oh.make_tensor_value_info("x0", onnx.TensorProto.FLOAT, x.shape)],
        [oh.make_tensor_value_info("y0", onnx.TensorProto.FLOAT, x.shape)],
        [onnx.numpy_helper.from_array(scale, "scale"), onnx.numpy_helper.from_array(zero, "zero")],
    )
    forward = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=10)
    proto = with_gradients(forward, ["x0"])
    seed = RNG.standard_normal(x.shape).astype(np.float32)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (actual,) = session.run(["dx0"], {"x0": x, "v0": seed})
    tensor = torch.tensor(x, requires_grad=True)
    if per_channel:
        fake = torch.fake_quantize_per_channel_affine(
            tensor,
            torch.tensor(scale),
            torch.tensor(zero.astype(np.int32)),
            1,
            limits.min,
            limits.max,
        )
    else:
        fake = torch.fake_quantize_per_tensor_affine(
            tensor, float(scale), int(zero), limits.min, limits.max
        )
    (fake * torch.tensor(seed)).sum().backward()
    assert 0 < (tensor.grad == 0).sum() < tensor.numel()
    np.testing.assert_allclose(actual, tensor.grad.numpy(), rtol=1e-6)


def test_max_pool_ties_go_to_the_first():
    torch = pytest.importorskip("torch")
    import onnx
    from onnx.reference import ReferenceEvaluator

    from helpers_gradients import forward_model, with_gradients

    x = np.zeros((1, 2, 6, 6), np.float64)
    x[0, 0, 2:4, 1:5] = 1.0
    case = Case("MaxPool", (x,), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})
    proto = with_gradients(forward_model(case, onnx.TensorProto.DOUBLE), ["x0"])
    seed = np.random.default_rng(0).standard_normal((1, 2, 3, 3))
    (actual,) = ReferenceEvaluator(proto).run(["dx0"], {"x0": x, "v0": seed})
    tensor = torch.tensor(x, requires_grad=True)
    pooled = torch.nn.functional.max_pool2d(tensor, 3, 2, 1)
    (pooled * torch.tensor(seed)).sum().backward()
    np.testing.assert_array_equal(actual, tensor.grad.numpy())
