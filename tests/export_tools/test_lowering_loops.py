"""Loops of a fixed number of rounds: unrolled, with the same result and an exact derivative."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from helpers_gradients import with_gradients
from onnxcam.errors import UnsupportedOpError
from onnxcam_export.loading import prepare
from onnxcam_export.lowered import loops

RNG = np.random.default_rng(5)
HEAD = '<ir_version: 9, opset_import: ["" : 18]>'

LOOP = (
    HEAD
    + """
repeated (double[2, 3] x0, double[2, 3] x1) => (double[2, 3] y0, double[r, 2, 3] y1)
<int64 rounds = {3}, bool yes = {1}, double[3] outer = {0.5, -1.2, 0.7}>
{
    y0, y1 = Loop (rounds, yes, x0) <body = body
        (int64 number, bool go_on, double[2, 3] state)
        => (bool still, double[2, 3] next, double[2, 3] kept)
        <double half = {0.5}>
        {
            still = Identity (go_on)
            as_float = Cast <to = 11> (number)
            turned = Mul (state, x1)
            moved = Add (turned, as_float)
            waves = Sin (moved)
            next = Mul (waves, outer)
            kept = Mul (next, half)
        }>
}
"""
)

SCAN = (
    HEAD
    + """
recurrence (double[2, 3] x0, double[4, 2, 3] x1) => (double[2, 3] y0, double[2, 4, 3] y1)
{
    y0, y1 = Scan <num_scan_inputs = 1, scan_input_directions = [1], scan_output_axes = [1],
                   scan_output_directions = [1], body = step
        (double[2, 3] state, double[2, 3] row) => (double[2, 3] next, double[2, 3] out)
        {
            sum = Add (state, row)
            next = Tanh (sum)
            out = Mul (next, row)
        }> (x0, x1)
}
"""
)

SCANNED_ALONG_THE_LAST_AXIS = (
    HEAD
    + """
sums (double[3] x0, double[3, 5] x1) => (double[3] y0, double[3, 5] y1)
{
    y0, y1 = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1], body = step
        (double[3] state, double[3] column) => (double[3] next, double[3] out)
        {
            product = Mul (column, column)
            next = Add (state, product)
            out = Sqrt (next)
        }> (x0, x1)
}
"""
)

# The first round takes the other branch: known, since the number of the round is.
BRANCHING = (
    HEAD
    + """
branching (double[2, 3] x0) => (double[2, 3] y0)
<int64 rounds = {3}, bool yes = {1}, int64 zero = {0}>
{
    y0 = Loop (rounds, yes, x0) <body = body
        (int64 number, bool go_on, double[2, 3] state) => (bool still, double[2, 3] next)
        {
            still = Identity (go_on)
            is_first = Equal (number, zero)
            next = If (is_first) <
                then_branch = first () => (double[2, 3] a) { a = Sin (state) },
                else_branch = later () => (double[2, 3] b) { b = Mul (state, state) }>
        }>
}
"""
)

NETWORKS = {
    "loop": LOOP,
    "scan": SCAN,
    "scan along the last axis": SCANNED_ALONG_THE_LAST_AXIS,
    "branch in a loop": BRANCHING,
}


def numbers(proto):
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.input
    }
    return {name: 0.3 + np.abs(RNG.standard_normal(shape)) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_unrolled_network_computes_the_same(name):
    proto = onnx.parser.parse_model(NETWORKS[name])
    feed = numbers(proto)
    lowered = prepare(proto)
    kinds = {node.op_type for node in lowered.graph}
    assert not kinds & {"Loop", "Scan", "If"}
    assert all(v.shape is not None for node in lowered.graph for v in node.outputs)
    unrolled = ir.to_proto(lowered)
    onnx.checker.check_model(unrolled, full_check=True)
    for plain, other in zip(run(proto, feed), run(unrolled, feed), strict=True):
        np.testing.assert_allclose(other, plain, rtol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_derivative_agrees_with_central_differences(name):
    proto = onnx.parser.parse_model(NETWORKS[name])
    feed = numbers(proto)
    ys = run(proto, feed)
    seeds = {f"v{i}": RNG.standard_normal(y.shape) for i, y in enumerate(ys)}
    derived = with_gradients(proto, list(feed))
    grads = ReferenceEvaluator(derived).run([f"d{name}" for name in feed], feed | seeds)
    ways = {name: RNG.standard_normal(array.shape) for name, array in feed.items()}

    def total(step):
        moved = {name: array + step * ways[name] for name, array in feed.items()}
        return sum((y * v).sum() for y, v in zip(run(proto, moved), seeds.values(), strict=True))

    numerical = (total(1e-6) - total(-1e-6)) / 2e-6
    found = sum((g * ways[name]).sum() for name, g in zip(feed, grads, strict=True))
    assert abs(found - numerical) < 1e-7 * max(1, abs(numerical))


@pytest.mark.parametrize("change", ["rounds from outside", "stops by itself", "too long"])
def test_other_loops_are_left_alone_and_refused(change, monkeypatch):
    text = LOOP
    if change == "rounds from outside":
        text = text.replace("double[2, 3] x1)", "double[2, 3] x1, int64 rounds)", 1)
        text = text.replace("int64 rounds = {3}, ", "")
    elif change == "stops by itself":
        text = text.replace("still = Identity (go_on)", "still = Not (go_on)")
    else:
        monkeypatch.setattr(loops, "LARGEST_UNROLLED", 10)
    proto = onnx.parser.parse_model(text)
    assert "Loop" in {node.op_type for node in prepare(proto).graph}
    with pytest.raises(UnsupportedOpError, match=r"Loop.*2,000 nodes unrolled"):
        with_gradients(proto, ["x0"])


def run(proto, feed):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, feed)
