"""The rules in float16 and bfloat16: valid graphs, of the right dtype, with float32's gradient."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from helpers_gradients import forward_model, run_float32, with_gradients
from helpers_rule_cases import CASES

# onnx knows no such operator for these dtypes, or its function body has float32 constants.
NO_HALF = {"Celu", "MeanVarianceNormalization"}


def session(proto):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])


def active_inputs(case):
    names = [i.name for i in forward_model(case, onnx.TensorProto.FLOAT).graph.input]
    positions = case.active if case.active is not None else [int(n[1:]) for n in names]
    return names, [f"x{p}" for p in positions]


# onnxruntime's CPU provider cannot add up float16.
NO_FLOAT16 = {"ScatterElements-add", "ScatterND-add"}


def known_in_bfloat16(case):
    """Whether onnx allows the operator on bfloat16 at all."""
    if case.op_type in NO_HALF or (case.op_type == "GroupNormalization" and case.opset < 21):
        return False  # the latter is written as InstanceNormalization, which knows no bfloat16
    plain = forward_model(case, onnx.TensorProto.BFLOAT16)
    try:
        onnx.shape_inference.infer_shapes(plain, check_type=True, strict_mode=True)
    except Exception:
        return False
    return True


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.in_onnxruntime and c.op_type not in NO_HALF and c.id not in NO_FLOAT16],
    ids=lambda case: case.id,
)
def test_float16_gives_the_gradient_of_float32(case):
    names, active = active_inputs(case)
    feed = {n: case.inputs[int(n[1:])].astype(np.float16) for n in names}
    plain = forward_model(case, onnx.TensorProto.FLOAT16)
    ys = session(plain).run(None, feed)
    rng = np.random.default_rng(0)
    seeds = {
        f"v{i}": rng.standard_normal(y.shape).astype(np.float16)
        for i, y in enumerate(ys)
        if y.dtype == np.float16
    }
    derived = with_gradients(plain, active)
    onnx.checker.check_model(derived, full_check=True)
    running = session(derived)
    wanted = {i.name for i in running.get_inputs()}
    fed = {k: v for k, v in (feed | seeds).items() if k in wanted}
    found = running.run([f"d{n}" for n in active], fed)
    expected = run_float32(case, active, feed | seeds)
    for name, half, full in zip(active, found, expected, strict=True):
        assert half.dtype == np.float16
        largest = float(np.abs(full).max()) or 1.0
        assert np.abs(half.astype(np.float32) - full).max() / largest < 0.02, name


@pytest.mark.parametrize(
    "case", [c for c in CASES if known_in_bfloat16(c)], ids=lambda case: case.id
)
def test_bfloat16_graphs_are_valid(case):
    plain = forward_model(case, onnx.TensorProto.BFLOAT16)
    _, active = active_inputs(case)
    derived = with_gradients(plain, active)
    onnx.checker.check_model(derived, full_check=True)
    types = {o.name: o.type.tensor_type.elem_type for o in derived.graph.output}
    assert all(types[f"d{n}"] == onnx.TensorProto.BFLOAT16 for n in active)
