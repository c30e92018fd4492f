"""Compare the gradient in an exported graph with one that knows nothing of our rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

from onnxcam.attribution import attribute
from onnxcam.contract import (
    ACTIVATION,
    GRADIENT,
    HIGHEST_SCORE,
    MASK,
    TARGET,
    VECTOR,
    WEIGHTS,
    output_name,
)
from onnxcam.errors import ExportError
from onnxcam.methods import DEFAULT_METHOD
from onnxcam_export.assemble import Built
from onnxcam_export.gradient.walk import path_between
from onnxcam_export.layers import Candidate
from onnxcam_export.loading import prepare
from onnxcam_export.relaxed_quantization import RELAXED
from onnxcam_export.sources import GradientOracle, Source
from onnxcam_export.verify_runs import Array, plain_picture, quiet_options, random_feed, run

# float32 itself wavers by up to some 2e-3 in the middle of a deep network; a wrong rule is off
# by its whole value.
TOLERANCE = 1e-2
# In a quantised or half-precision path the evaluator and the runtime round some values apart,
# which moves saturation masks further down.
TOLERANCE_ROUNDED = 0.2
DIRECTIONS = 4


@dataclass(frozen=True)
class Verification:
    """What was compared.

    Attributes:
        oracle: what was compared with what.
        graph: the graph's numbers (largest gradient, or one directional derivative a direction).
        independent: the oracle's.
        error: the largest difference, relative to the largest gradient (framework), or to the
            norm of the products that a directional derivative sums (numerical).
    """

    oracle: str
    graph: list[float]
    independent: list[float]
    error: float
    tolerance: float = TOLERANCE

    @property
    def agrees(self) -> bool:
        return bool(self.error <= self.tolerance)

    def lines(self) -> list[str]:
        """The report for people."""
        rows = [f"verify: {self.oracle}"]
        rows += [
            f"  graph {a: .6e}   independent {b: .6e}"
            for a, b in zip(self.graph, self.independent, strict=True)
        ]
        verdict = "agrees" if self.agrees else "DIFFERS"
        return [*rows, f"  relative error {self.error:.1e} (at most {self.tolerance}): {verdict}"]


def verify(built: Built, source: Source, seed: int = 0) -> Verification:
    """What :func:`verify_each` found to be furthest off.

    Raises:
        ExportError: as :func:`verify_each`.
    """
    return max(verify_each(built, source, seed), key=lambda found: found.error / found.tolerance)


def verify_each(built: Built, source: Source, seed: int = 0) -> list[Verification]:
    """Run the exported model on random input and compare its gradients, layer by layer.

    With a framework's own autograd where the source has one for the layer, else with central
    differences in float64 along random directions, computed with onnx's reference evaluator
    from the activation on. Of several targets an image the first two and the last are compared;
    pooled weights with the pooled gradient, or along directions that are constant over space.

    A finished heatmap does not show the gradient it was made from: that is compared in a file
    which puts it out, and the heatmap with what the engine makes of it. Of an input of bytes the
    activation is compared with that of the plain model.

    Raises:
        ExportError: the gradients differ, or the model cannot be run on random input.
    """
    if built.contract.emit == "heatmap":
        return _verify_heatmaps(built, source, seed)
    feed = random_feed(built, seed)
    outputs = run(built, feed)
    plain_feed = {**feed, built.contract.picture.name: plain_picture(built, feed)}
    found = []
    for index, layer in enumerate(built.layers):
        head: _Head | None = None
        for case in _cases(built, index, layer, feed, outputs):
            oracle = _oracle(built, index)
            if oracle is not None:
                found.append(_against_framework(built, source, oracle, case, plain_feed))
            else:
                head = head or _Head(built, source, layer, plain_feed)
                found.append(_against_differences(head, case, seed))
    if built.plain_picture != built.contract.picture:
        found.append(_activation_of_bytes(built, source, outputs, plain_feed))
    return _refuse_wrong("gradient", found)


def _activation_of_bytes(
    built: Built, source: Source, outputs: dict[str, Array], plain_feed: dict[str, Array]
) -> Verification:
    prepared = prepare(source.model)
    values = {str(v.name): v for node in prepared.graph for v in node.outputs}
    tensor = str(built.layer.value.name)
    fetched = _Head._fetch(source.model, [values[tensor]], plain_feed)[tensor]
    expected = np.asarray(built.layer.exposed(fetched), np.float32)
    actual = outputs[ACTIVATION]
    largest = float(np.abs(expected).max())
    return Verification(
        "activation of bytes against the plain model's (largest)",
        [float(np.abs(actual).max())],
        [largest],
        float(np.abs(actual - expected).max() / (largest or 1.0)),
        _tolerance(source),
    )


def _tolerance(source: Source) -> float:
    """For two runs of the same model, integers or halves in it rounded apart."""
    graph = source.model.graph
    halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    rounded = any(node.op_type == "QuantizeLinear" for node in graph.node) or any(
        tensor.data_type in halves for tensor in graph.initializer
    )
    return TOLERANCE_ROUNDED if rounded else TOLERANCE


def _verify_heatmaps(built: Built, source: Source, seed: int) -> list[Verification]:
    """The gradient of the same export unfinished, and each heatmap against the engine's of it."""
    method = built.contract.method
    emit = "weights" if method == DEFAULT_METHOD else "gradient"
    unfinished = built.unfinished(emit=emit, input="model")
    found = verify_each(unfinished, source, seed)
    feed = random_feed(built, seed)
    plain_feed = {**feed, built.contract.picture.name: plain_picture(built, feed)}
    ours, theirs = run(built, feed), run(unfinished, plain_feed)
    several = TARGET in feed and feed[TARGET].ndim == 2
    for index, layer in enumerate(built.layers):
        actual = attribute(ours, "heatmap", method, index, several=several).finished
        expected = attribute(theirs, emit, method, index).finished
        for axis, side in enumerate(actual.shape[2:], start=2):
            expected = _stretched(expected, axis, side)
        title = f"layer '{layer.layer.title}', " if len(built.layers) > 1 else ""
        found.append(
            Verification(
                f"{title}heatmap against the engine's {method} (mean of the map)",
                [float(actual.mean())],
                [float(expected.mean())],
                float(np.abs(actual - expected).max()),
                _tolerance(source),
            )
        )
    return _refuse_wrong("heatmap", found)


def _stretched(maps: Array, axis: int, side: int) -> Array:
    """Linear along one axis: half-pixel centres, edges repeated."""
    own = maps.shape[axis]
    places = (np.arange(side) + 0.5) * own / side - 0.5
    return np.apply_along_axis(lambda row: np.interp(places, np.arange(own), row), axis, maps)


def _refuse_wrong(what: str, found: list[Verification]) -> list[Verification]:
    wrong = [each for each in found if not each.agrees]
    if wrong:
        raise ExportError(f"the {what} is wrong. " + "; ".join(wrong[0].lines()))
    return found


@dataclass(frozen=True)
class _Case:
    """One layer's gradient [N, C, *spatial], or its weights [N, C], for one class an image."""

    layer: Candidate
    title: str
    classes: npt.NDArray[np.int64]
    values: Array
    pooled: bool


def _cases(
    built: Built, index: int, layer: Candidate, feed: dict[str, Array], outputs: dict[str, Array]
) -> list[_Case]:
    pooled = built.contract.emit == "weights"
    values = outputs[output_name(WEIGHTS if pooled else GRADIENT, index)]
    scores = outputs[built.contract.output.name]
    best = scores.reshape(len(scores), -1).argmax(axis=1)
    targets = feed.get(TARGET, np.full(len(scores), HIGHEST_SCORE))
    several = targets.ndim == 2
    columns = targets if several else targets[:, None]
    count = columns.shape[1]
    title = f"layer '{layer.layer.title}', " if len(built.layers) > 1 else ""
    cases = []
    for k in sorted({0, min(1, count - 1), count - 1}):
        classes = np.where(columns[:, k] == HIGHEST_SCORE, best, columns[:, k])
        name = f"{title}class {classes[0]}, " if several else title
        one = values[:, k] if several else values
        cases.append(_Case(layer, name, classes.astype(np.int64), one, pooled))
    return cases


def _oracle(built: Built, index: int) -> GradientOracle | None:
    """A framework differentiates its first output, and knows no function but softmax to append."""
    first = built.model.graph.output[0].name
    able = built.contract.output.name == first and built.score.append != "sigmoid"
    return built.oracles[index] if able else None


def _against_framework(
    built: Built, source: Source, oracle: GradientOracle, case: _Case, feed: dict[str, Array]
) -> Verification:
    picture = feed[built.contract.picture.name].astype(np.float32)
    _, gradient = oracle(picture, case.classes, built.contract.score)
    actual = case.values
    expected = np.asarray(case.layer.exposed(gradient), np.float32)
    if case.pooled:
        expected = expected.mean(axis=tuple(range(2, expected.ndim)))
    if expected.shape != actual.shape:
        raise ExportError(
            f"verify: the graph's gradient has shape {actual.shape}, autograd's {expected.shape}"
        )
    largest = float(np.abs(expected).max())
    error = (
        float(np.abs(actual - expected).max() / largest) if largest else float(np.abs(actual).max())
    )
    name = next(iter(k for k in source.producer), "the framework")
    what = "weight" if case.pooled else "gradient"
    return Verification(
        f"{case.title}against {name}'s autograd (largest {what})",
        [float(np.abs(actual).max())],
        [largest],
        error,
    )


def _against_differences(head: _Head, case: _Case, seed: int) -> Verification:
    activation, layer = head.activation, case.layer
    rng = np.random.default_rng(seed)
    exposed = np.shape(layer.exposed(activation))
    if case.pooled:
        # The same step for a whole channel: ties in a pool stay ties.
        weights = case.values.astype(np.float64).reshape(*exposed[:2], *[1] * (len(exposed) - 2))
        values = np.broadcast_to(weights, exposed)
    else:
        values = case.values.astype(np.float64)
    gradient = np.asarray(layer.embedded(values), np.float64)
    on_grid = layer.embedded(np.ones(exposed)) != 0
    # Equal values (zeros behind a ReLU) tie in a max: there the derivative along a random
    # direction is not that of the first one, which autograd and we take. They stay put.
    _, inverse, counts = np.unique(activation, return_inverse=True, return_counts=True)
    free = (counts[inverse] == 1).reshape(activation.shape) & on_grid
    in_graph, numerical, error = [], [], 0.0
    step = 1e-8 * max(float(np.abs(activation).max()), 1e-12)
    for _ in range(DIRECTIONS):
        if case.pooled:
            by_channel = rng.standard_normal((*exposed[:2], *[1] * (len(exposed) - 2)))
            direction = np.asarray(layer.embedded(np.broadcast_to(by_channel, exposed)))
        else:
            direction = rng.standard_normal(activation.shape) * free
        products = gradient * direction
        ahead = head.score(activation + step * direction, case.classes)
        behind = head.score(activation - step * direction, case.classes)
        numerical.append(float((ahead - behind) / (2 * step)))
        in_graph.append(float(products.sum()))
        scale = float(np.sqrt((products**2).sum())) or abs(numerical[-1]) or 1.0
        error = max(error, abs(in_graph[-1] - numerical[-1]) / scale)
    tolerance = TOLERANCE_ROUNDED if head.rounded else TOLERANCE
    name = f"{case.title}against central differences in float64 (directional derivatives)"
    return Verification(name, in_graph, numerical, error, tolerance)


class _Head:
    """The plain model from the activation to the score, in float64."""

    def __init__(
        self, built: Built, source: Source, layer: Candidate, feed: dict[str, Array]
    ) -> None:
        graph = prepare(source.model).graph
        values = {str(v.name): v for node in graph for v in node.outputs}
        activation = values[str(layer.value.name)]
        score = values[str(built.score.value.name)]
        self._append, self._of = built.score.append, built.score.of
        self._feed, self._channel_axis = feed, built.score.channel_axis
        path = path_between(list(graph), activation, score)
        halves = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
        self.rounded = activation.dtype in halves or any(
            node.op_type == "QuantizeLinear" for node in path
        )
        produced = {v for node in path for v in node.outputs} | {activation}
        outside = {
            v for node in path for v in node.inputs
            if v is not None and v not in produced and not v.is_initializer()
        }  # fmt: skip
        fetched = self._fetch(source.model, [activation, *outside], feed)
        self.activation = fetched[str(activation.name)].astype(np.float64)
        self._constants = {str(v.name): _wide(fetched[str(v.name)]) for v in outside}
        inputs = [activation, *outside]
        initializers = {
            v for node in path for v in node.inputs if v is not None and v.is_initializer()
        }
        self._constants |= {
            str(v.name): _wide(v.const_value.numpy())
            for v in initializers
            if v.const_value is not None
        }
        model_of_head = _float64_model(path, [*inputs, *initializers], score)
        self._evaluator = ReferenceEvaluator(model_of_head, new_ops=RELAXED)
        self._name = str(activation.name)
        self._evaluator.run(None, self._constants | {self._name: self.activation})

    def score(self, activation: Array, classes: npt.NDArray[np.int64]) -> float:
        feed = self._constants | {self._name: activation}
        scores: list[Any] = self._evaluator.run(None, feed)  # type: ignore[assignment]
        value = self._rows(np.asarray(scores[0]))
        if self._append == "softmax":
            value = np.exp(value - value.max(axis=1, keepdims=True))
            value = value / value.sum(axis=1, keepdims=True)
        elif self._append == "sigmoid":
            value = 1.0 / (1.0 + np.exp(-value))
        return float(value[np.arange(len(classes)), classes].sum())

    def _rows(self, value: Array) -> Array:
        """The scores [N, C]; see :mod:`onnxcam_export.score_of`."""
        if self._of == "region":
            mask = self._feed[MASK].astype(np.float64)
            sums = np.einsum("nchw,nhw->nc", np.moveaxis(value, self._channel_axis, 1), mask)
            return np.asarray(sums / mask.sum(axis=(1, 2))[:, None])
        rows = value.reshape(len(value), -1)
        if self._of in ("dot", "cosine"):
            vector = self._feed[VECTOR].astype(np.float64)
            product = (rows * vector).sum(axis=1, keepdims=True)
            if self._of == "dot":
                return np.asarray(product)
            lengths = [np.linalg.norm(v, axis=1, keepdims=True) for v in (rows, vector)]
            return np.asarray(product / (lengths[0] * lengths[1]))
        return rows

    @staticmethod
    def _fetch(
        model: onnx.ModelProto, values: list[ir.Value], feed: dict[str, Array]
    ) -> dict[str, Array]:
        """The plain model's own values of some tensors, by onnxruntime."""
        prepared = prepare(model)
        by_name = {str(v.name): v for node in prepared.graph for v in node.outputs}
        names = [str(v.name) for v in values if str(v.name) in by_name]
        present = {v.name for v in prepared.graph.outputs}
        prepared.graph.outputs.extend(by_name[n] for n in names if n not in present)
        prepared.ir_version = min(prepared.ir_version, 10)
        content = ir.to_proto(prepared).SerializeToString()
        session = ort.InferenceSession(content, quiet_options(), ["CPUExecutionProvider"])
        own = {str(v.name) for v in prepared.graph.inputs}
        plain = {k: v for k, v in feed.items() if k in own}
        return dict(zip(names, session.run(names, plain), strict=True)) | plain


def _float64_model(path: list[ir.Node], inputs: list[ir.Value], score: ir.Value) -> onnx.ModelProto:
    nodes = []
    for node in path:
        proto = ir.to_proto(node)
        for given in proto.attribute:
            if given.name == "to" and node.op_type == "Cast":
                given.i = onnx.TensorProto.DOUBLE
        nodes.append(proto)
    graph = onnx.helper.make_graph(
        nodes,
        "head",
        [onnx.helper.make_tensor_value_info(str(v.name), _wide_type(v), None) for v in inputs],
        [onnx.helper.make_tensor_value_info(str(score.name), onnx.TensorProto.DOUBLE, None)],
    )
    owner = path[0].graph if path else None
    opsets = dict(owner.opset_imports) if isinstance(owner, ir.Graph) else {"": 18}
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)


def _wide(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats in float64, integers and booleans as they are (bfloat16 is of numpy's kind V)."""
    return array.astype(np.float64) if array.dtype.kind in "fV" else array


def _wide_type(value: ir.Value) -> int:
    floats = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
    if value.dtype in floats or value.dtype is None:
        return int(onnx.TensorProto.DOUBLE)
    return int(value.dtype)
