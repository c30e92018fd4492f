"""The rules against onnx-ad, another differentiator of ONNX graphs, where it has a rule.

Central differences along random directions (test_rules.py) can miss what cancels; here every
entry of the gradient is compared, in float64 where the reference evaluator can run both graphs.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ad
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from helpers_gradients import EXACT, Case, forward_model, with_gradients
from helpers_rule_cases import CASES

# Where onnx-ad is wrong, by central differences (test_rules.py).
WRONG = {
    "Clip-crossing bounds": "the value is the upper bound, whatever the lower one",
    "BatchNormalization-all computed": "mean and variance have derivatives",
    "BatchNormalization-all computed, of rows": "mean and variance have derivatives",
}


class NoOracle(Exception):
    """onnx-ad has no rule, or its graph cannot be run."""


def by_onnx_ad(forward: onnx.ModelProto, feed, seeds, active) -> list[np.ndarray]:
    try:
        model = onnx_ad.reverse(forward, inputs=active, outputs=list(seeds), layout="onnx")
    except Exception as error:
        raise NoOracle(str(error)) from error
    given = feed | {f"adj_{name}": seed[..., None] for name, seed in seeds.items()}
    wanted = [f"adj_{name}" for name in active]
    return [value[..., 0] for value in run(model, wanted, given)]


def run(model: onnx.ModelProto, wanted: list[str], feed) -> list[np.ndarray]:
    names = {i.name for i in model.graph.input}
    feed = {name: array for name, array in feed.items() if name in names}
    try:
        return ReferenceEvaluator(model, new_ops=EXACT).run(wanted, feed)
    except Exception:  # the evaluator lacks some operators, and fails in some others
        options = ort.SessionOptions()
        options.log_severity_level = 4
        try:
            session = ort.InferenceSession(
                model.SerializeToString(), options, ["CPUExecutionProvider"]
            )
            return session.run(wanted, feed)
        except Exception as error:
            raise NoOracle(str(error)) from error


@pytest.fixture(scope="module")
def compared() -> list[str]:
    return []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_rule_agrees_with_onnx_ad(case: Case, compared):
    if case.id in WRONG:
        return
    forward = forward_model(case, onnx.TensorProto.DOUBLE)
    names = [i.name for i in forward.graph.input]
    active = [f"x{p}" for p in case.active] if case.active is not None else names
    feed = {name: np.asarray(case.inputs[int(name[1:])], np.float64) for name in names}
    outputs = [o.name for o in forward.graph.output]
    rng = np.random.default_rng(0)
    try:
        ys = run(forward, outputs, feed)
        seeds = {
            name: rng.standard_normal(y.shape)
            for name, y in zip(outputs, ys, strict=True)
            if y.dtype.kind == "f"
        }
        expected = by_onnx_ad(forward, feed, seeds, active)
        ours = with_gradients(forward, active)
        given = feed | {f"v{name[1:]}": seed for name, seed in seeds.items()}
        found = run(ours, [f"d{name}" for name in active], given)
    except NoOracle:
        return
    for name, mine, theirs in zip(active, found, expected, strict=True):
        assert mine.shape == theirs.shape, name
        largest = float(np.abs(theirs).max()) or 1.0
        assert np.abs(mine - theirs).max() <= 1e-6 * largest, name
    compared.append(case.id)


def test_onnx_ad_could_be_asked_about_most_rules(compared, request):
    ran = [item for item in request.session.items if item.fspath == request.node.fspath]
    if len(ran) < len(CASES):
        pytest.skip("the whole file has to run")
    print(f"{len(compared)} of {len(CASES)} cases compared with onnx-ad")
    assert len(compared) > 0.7 * len(CASES), (len(compared), len(CASES))
