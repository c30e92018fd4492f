"""The ONNX project's own node tests, differentiated: our gradient against central differences.

Each case (one operator, or the expansion of a function) is brought to float64, its integer inputs
become constants, and the directional derivative of all of its float inputs together is compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from helpers_gradients import EXACT, with_gradients
from onnxcam.errors import OnnxcamError, UnsupportedOpError

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    `kind` is `agrees`, `disagrees`, `refused` (with our error as the reason), `no floats`
    (nothing to differentiate), or `not run` (onnx's evaluator cannot run the case in float64).
    """

    name: str
    kind: str
    reason: str = ""
    error: float = 0.0


def node_cases() -> Iterator[tuple[str, onnx.ModelProto, list[np.ndarray]]]:
    """Name, model and inputs of every node test that onnx ships."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    for case in cases:
        yield case.name, case.model, case.data_sets[0][0]


def examine(name: str, model: onnx.ModelProto, arrays: list[np.ndarray]) -> Outcome:
    """Derive one case and compare."""
    if any(isinstance(array, onnx.TensorProto) for array in arrays):
        return Outcome(name, "no floats", "an input of eight bits or fewer")
    types = [value.type for value in [*model.graph.input, *model.graph.output]]
    if any(t.WhichOneof("value") != "tensor_type" for t in types):
        return Outcome(name, "no floats")
    wanted = [i for i in model.graph.input if i.type.tensor_type.elem_type in FLOATS]
    outputs = [o for o in model.graph.output if o.type.tensor_type.elem_type in FLOATS]
    if not wanted or not outputs:
        return Outcome(name, "no floats")
    proto, feed = widened(model, arrays)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            forward = ReferenceEvaluator(proto, new_ops=EXACT)
            results = forward.run(None, feed)
        except Exception as error:
            return Outcome(name, "not run", f"forward: {type(error).__name__}")
        floats = [i for i, y in enumerate(results) if np.asarray(y).dtype == np.float64]
        if not floats or not all(np.isfinite(results[i]).all() for i in floats):
            return Outcome(name, "no floats", "results are not finite, or no floats")
        outcome = _compare(name, proto, feed, forward, results, floats)
        if outcome.kind == "refused" and len(floats) > 1:
            # The further outputs (a mean, a mask, indices) may be what has no derivative.
            first = onnx.ModelProto.FromString(proto.SerializeToString())
            del first.graph.output[1:]
            again = _compare(name, first, feed, forward, results, [0])
            outcome = again if again.kind == "agrees" else outcome
        if outcome.kind in ("disagrees", "not run"):
            again = _compare(name, proto, feed, forward, results, floats, in_onnxruntime=True)
            outcome = again if again.kind == "agrees" else outcome
        return outcome


def _compare(name, proto, feed, forward, results, floats, in_onnxruntime=False) -> Outcome:
    active, reason = [n for n in feed if n not in _no_derivative(proto)], ""
    while active:
        try:
            derived = with_gradients(proto, active)
            break
        except UnsupportedOpError as error:
            # An input that nobody differentiates by (a scale, a mean) is left out, and said so.
            named = [n for n in active if f"('{n}')" in str(error)]
            if not named:
                return Outcome(name, "refused", str(error))
            active.remove(named[0])
            reason = str(error)
        except OnnxcamError as error:
            if "does not lead to the score" not in str(error):
                return Outcome(name, "refused", str(error))
            named = [n for n in active if f"layer '{n}'" in str(error)]
            active.remove(named[0])
    if not active:
        return Outcome(name, "refused" if reason else "no floats", reason)
    rng = np.random.default_rng(0)
    seeds = {f"v{i}": rng.standard_normal(np.shape(results[i])) for i in floats}
    wanted = [f"d{n}" for n in active]
    try:
        if in_onnxruntime:  # where onnx's evaluator has no answer or a wrong one
            grads = _in_onnxruntime(with_gradients(narrowed(proto), active), wanted, feed | seeds)
        else:
            grads = ReferenceEvaluator(derived, new_ops=EXACT).run(wanted, feed | seeds)
    except Exception as error:
        return Outcome(name, "not run", f"gradient: {type(error).__name__}: {error}"[:200])
    direction = {n: rng.standard_normal(feed[n].shape) for n in active}

    def total(step: float) -> float:
        moved = feed | {n: feed[n] + step * d for n, d in direction.items()}
        ys = forward.run(None, moved)
        return sum(float((ys[i] * seeds[f"v{i}"]).sum()) for i in floats)

    products = [g * direction[n] for n, g in zip(active, grads, strict=True)]
    numerical = (total(1e-6) - total(-1e-6)) / 2e-6
    found = sum(float(p.sum()) for p in products)
    scale = float(np.sqrt(sum(float((p**2).sum()) for p in products))) or 1.0
    error = abs(found - numerical) / scale
    if not np.isfinite(numerical):
        return Outcome(name, "no floats", "a step leaves the operator's domain")
    kind = "agrees" if error < (1e-3 if in_onnxruntime else 1e-4) else "disagrees"
    return Outcome(name, kind, f"{found:.6g} against {numerical:.6g}; {reason}", error)


# Inputs that are floats and nothing to differentiate by: operator -> positions.
_PARAMETERS = {
    "Resize": (1, 2),
    "Upsample": (1,),
    "Dropout": (1, 2),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    # Their positions lie on pixels, where that derivative jumps: tests/export_tools/test_rules.py.
    "GridSample": (1,),
    "DeformConv": (2,),
}


def _no_derivative(model: onnx.ModelProto) -> set[str]:
    return {
        node.input[i]
        for node in model.graph.node
        for i in _PARAMETERS.get(node.op_type, ())
        if i < len(node.input)
    }


def _in_onnxruntime(model, wanted, feed) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    return session.run(wanted, {k: v.astype(np.float32) for k, v in feed.items() if k in names})


def widened(
    model: onnx.ModelProto, arrays: list[np.ndarray]
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model with every float as float64 and its other inputs as constants; its float inputs."""
    proto = onnx.ModelProto.FromString(model.SerializeToString())
    graph = proto.graph
    feed, fixed = {}, _no_derivative(model)
    for value, array in zip(list(graph.input), arrays, strict=False):
        if value.type.tensor_type.elem_type in FLOATS and value.name not in fixed:
            feed[value.name] = np.asarray(array, np.float64)
        else:
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), value.name))
            graph.input.remove(value)
    _retype_graph(graph, TensorProto.DOUBLE, fixed)
    return proto, feed


def narrowed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same in float32."""
    proto = onnx.ModelProto.FromString(model.SerializeToString())
    _retype_graph(proto.graph, TensorProto.FLOAT, set())
    return proto


def _retype_graph(graph: onnx.GraphProto, dtype: int, fixed: set[str]) -> None:
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type in FLOATS:
            value.type.tensor_type.elem_type = dtype
    for tensor in graph.initializer:
        if tensor.name not in fixed:
            _retype_tensor(tensor, dtype)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "stash_type", "softmax_precision"):
                attribute.i = dtype if attribute.i in FLOATS else attribute.i
            if attribute.HasField("t"):
                _retype_tensor(attribute.t, dtype)
            if attribute.HasField("g"):
                _retype_graph(attribute.g, dtype, fixed)


def _retype_tensor(tensor: onnx.TensorProto, dtype: int) -> None:
    if tensor.data_type in FLOATS:
        array = onnx.numpy_helper.to_array(tensor)
        array = array.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype))
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
