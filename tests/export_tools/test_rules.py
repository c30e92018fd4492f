"""Every row of the table against central differences in float64, over its variants."""

from __future__ import annotations

import numpy as np
import pytest

from helpers_gradients import Case, directional_errors
from helpers_rule_cases import CASES, RNG, ints, real
from onnxcam_export.gradient.rules import RULES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_rule_agrees_with_central_differences(case):
    errors = directional_errors(case)
    assert errors, "nothing was compared"
    assert max(errors.values()) < case.tolerance, errors


def test_every_rule_has_a_case():
    elsewhere = {("", "QuantizeLinear"), ("", "DequantizeLinear")}  # below, against torch
    # losses and what only the newest opset has: tests/export_tools/test_onnx_node_tests.py
    elsewhere |= {("", n) for n in ("SwiGLU", "NegativeLogLikelihoodLoss")}
    elsewhere |= {("", "SoftmaxCrossEntropyLoss")}
    # tests/export_tools/test_quantized_models.py
    elsewhere |= {("", n) for n in ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger")}
    rules = set(RULES) - elsewhere
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


def test_grouped_transposed_convolution_agrees_with_torch():
    """onnx's reference evaluator cannot run it; torch can."""
    torch = pytest.importorskip("torch")
    import onnx
    import onnxruntime as ort

    from helpers_gradients import forward_model, with_gradients

    x, weight = real(2, 4, 5), real(4, 3, 3)
    case = Case("ConvTranspose", (x, weight), {"strides": [2], "group": 2, "pads": [1, 0]})
    proto = with_gradients(forward_model(case, onnx.TensorProto.FLOAT), ["x0", "x1"])
    tensors = [torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in (x, weight)]
    y = torch.nn.functional.conv_transpose1d(*tensors, stride=2, groups=2)[:, :, 1:]
    seed = RNG.standard_normal(y.shape).astype(np.float32)
    (y * torch.tensor(seed)).sum().backward()
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"x0": x.astype(np.float32), "x1": weight.astype(np.float32), "v0": seed}
    actual = session.run(["dx0", "dx1"], feed)
    for found, tensor in zip(actual, tensors, strict=True):
        np.testing.assert_allclose(found, tensor.grad.numpy(), rtol=1e-4, atol=1e-5)


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


def test_resize_to_sizes_computed_from_an_open_batch_agrees_with_torch():
    torch = pytest.importorskip("torch")
    import onnx
    import onnx.helper as oh
    import onnxruntime as ort

    from helpers_gradients import with_gradients

    nodes = [
        oh.make_node("Shape", ["x0"], ["batch"], start=0, end=1),
        oh.make_node("Concat", ["batch", "rest"], ["sizes"], axis=0),
        oh.make_node("Resize", ["x0", "", "", "sizes"], ["y0"], mode="linear"),
    ]
    graph = oh.make_graph(
        nodes,
        "resize",
        [oh.make_tensor_value_info("x0", onnx.TensorProto.FLOAT, ["batch", 2, 4, 5])],
        [oh.make_tensor_value_info("y0", onnx.TensorProto.FLOAT, ["batch", 2, 7, 9])],
        [onnx.numpy_helper.from_array(np.array([2, 7, 9]), "rest")],
    )
    plain = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)
    derived = with_gradients(plain, ["x0"])
    rng = np.random.default_rng(4)
    x = rng.standard_normal((3, 2, 4, 5)).astype(np.float32)
    seed = rng.standard_normal((3, 2, 7, 9)).astype(np.float32)
    session = ort.InferenceSession(derived.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["dx0"], {"x0": x, "v0": seed})
    tensor = torch.tensor(x, requires_grad=True)
    resized = torch.nn.functional.interpolate(tensor, (7, 9), mode="bilinear")
    (resized * torch.tensor(seed)).sum().backward()
    np.testing.assert_allclose(found, tensor.grad.numpy(), atol=1e-5)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample_agrees_with_torch(mode, padding, corners):
    torch = pytest.importorskip("torch")
    import onnx
    import onnxruntime as ort

    from helpers_gradients import forward_model, with_gradients

    # Beyond a border onnx moves the position back, torch each pixel: one and the same but for the
    # bicubic mode with the border's own pixels.
    reach = 0.6 if (mode, padding) == ("bicubic", "border") else 2.6
    x, grid = real(2, 3, 6, 7), RNG.uniform(-reach, reach, (2, 4, 5, 2))
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": int(corners)}
    case = Case("GridSample", (x, grid), attributes)
    proto = with_gradients(forward_model(case, onnx.TensorProto.FLOAT), ["x0", "x1"])
    seed = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"x0": x.astype(np.float32), "x1": grid.astype(np.float32), "v0": seed}
    actual = session.run(["dx0", "dx1"], feed)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, grid)]
    sampled = torch.nn.functional.grid_sample(*tensors, mode, padding, corners)
    (sampled * torch.tensor(seed)).sum().backward()
    for found, tensor in zip(actual, tensors, strict=True):
        expected = tensor.grad.numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))
