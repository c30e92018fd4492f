"""Which number is differentiated: what the output holds, and the tensor that the seed goes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxcam.contract import ACTIVATIONS, SCORE, SCORES, Output
from onnxcam.errors import ExportError
from onnxcam_export.channel_axis import channel_axes
from onnxcam_export.gradient.ops import FLOATS
from onnxcam_export.gradient.shapes import constant, dims, int_attribute
from onnxcam_export.score_of import NEW_SCORES, SCORES_OF

# Operators at the end of a network that do not change which value belongs to which class.
_LOOKED_THROUGH = frozenset(
    """Reshape Flatten Squeeze Unsqueeze Identity Cast Dropout Transpose QuantizeLinear
    DequantizeLinear""".split()
)
_FINAL = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "logits"}


@dataclass(frozen=True)
class Score:
    """The differentiated tensor, one value per class.

    Attributes:
        value: tensor of shape [N, C], further axes of size 1 anywhere behind N.
        output: the model's output and what it holds, for the contract.
        append: the function to put behind `value` before differentiating (`softmax`,
            `sigmoid`), or None.
        classes: C.
        assumed: whether the output's activation was not read off the graph but assumed.
        of: what the score is, a key of :data:`onnxcam_export.score_of.SCORES_OF`. For another
            than `class`, `value` is the tensor that the [N, C] scores are made of.
        made_of: the model's output that the score is made of, where it is no class.
        channel_axis: where that output has its channels.
    """

    value: ir.Value
    output: Output
    append: str | None
    classes: int
    assumed: bool
    of: str = "class"
    made_of: str = ""
    channel_axis: int = 1


def find_score(
    graph: ir.Graph,
    score: str,
    activation: str | None = None,
    output_name: str | None = None,
    of: str = "class",
) -> Score:
    """Choose the scored tensor.

    Args:
        graph: the plain model's graph.
        score: `logit` steps over a final Softmax, LogSoftmax or Sigmoid; `probability` does not,
            and puts `activation` behind a model that ends in logits.
        activation: `softmax`, `sigmoid` or `none` where the graph can't say.
        output_name: the scored output; the first by default.
        of: a key of :data:`onnxcam_export.score_of.SCORES_OF`.

    Raises:
        ExportError: an unknown option, an output that is not one value per class, or a
            probability asked of a model that does not say which function makes one.
    """
    if score not in SCORES:
        raise ExportError(f"score: expected one of {', '.join(SCORES)}; got {score!r}")
    if activation not in (None, "none", *ACTIVATIONS):
        raise ExportError(
            f"activation: expected one of {', '.join(ACTIVATIONS)}, none; got {activation!r}"
        )
    if of not in SCORES_OF:
        raise ExportError(f"score of: expected one of {', '.join(SCORES_OF)}; got {of!r}")
    output = _output(graph, output_name)
    before, scale, zero_point = _quantisation(output)
    if of != "class":
        return _new_score(output, before, score, activation, of, channel_axes(list(graph)))
    found = _score(output, score, activation)
    described = replace(found.output, scale=scale, zero_point=zero_point)
    # Integers have no derivative; what was rounded to them has.
    value = before if found.value is output else found.value
    return replace(found, value=value, output=described)


def _score(output: ir.Value, score: str, activation: str | None) -> Score:
    classes = class_count(output)
    final = _final_activation(output)
    kind = _FINAL[final.op_type] if final is not None else "logits"
    if final is not None:
        implied = "softmax" if kind == "logits" else kind
        if activation not in (None, implied):
            raise ExportError(
                f"activation: the model ends in {final.op_type}, which says {implied!r}; "
                f"got {activation!r}"
            )
        logit = final.inputs[0]
        assert logit is not None
        value = logit if score == "logit" or kind == "logits" else output
        append = "softmax" if score == "probability" and kind == "logits" else None
        function = "softmax" if kind == "logits" else None
        return Score(value, Output(output.name or "", kind, function), append, classes, False)
    if activation == "none" or (activation is None and classes == 1):
        if score == "probability":
            raise ExportError(
                "score 'probability': the model's output is a raw value, not a logit; "
                "use score 'logit', or say which function makes a probability of it "
                "(activation 'softmax' or 'sigmoid')"
            )
        return Score(output, Output(output.name or "", "raw"), None, classes, activation is None)
    if score == "probability" and activation is None:
        raise ExportError(
            "score 'probability': the model ends in logits and does not say which function makes "
            "probabilities of them; pass activation 'softmax' (one class a picture) or 'sigmoid' "
            "(several)"
        )
    function = activation or "softmax"
    append = function if score == "probability" else None
    return Score(
        output, Output(output.name or "", "logits", function), append, classes, activation is None
    )


def _new_score(
    output: ir.Value,
    before: ir.Value,
    score: str,
    activation: str | None,
    of: str,
    axes: Mapping[ir.Value, int],
) -> Score:
    """A score made of an output; a Softmax or Sigmoid that the output comes out of directly is
    stepped over as with classes.
    """
    node = before.producer()
    while node is not None and node.op_type in ("Identity", "Cast") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    final = node.op_type if node is not None and of not in ("dot", "cosine") else ""
    # What the axes mean is known of the input of a Softmax, which says nothing of itself.
    inner = node.inputs[0] if node is not None and final in _FINAL else None
    axis = axes.get(before, axes.get(inner) if inner is not None else None)
    classes = NEW_SCORES[of].count(output, axis)
    name, axis = str(output.name), axis or 1
    if score == "probability":
        if final not in ("Softmax", "Sigmoid"):
            raise ExportError(
                f"score 'probability' of {of}: the output is not made by Softmax or Sigmoid; "
                "use score 'logit'"
            )
        described = Output(SCORE, _FINAL[final])
        return Score(before, described, None, classes, False, of, name, axis)
    implied = "sigmoid" if final == "Sigmoid" else None
    if activation not in (None, "none", implied if final in _FINAL else "sigmoid"):
        raise ExportError(
            f"activation {activation!r}: does not make probabilities of a score of {of} here"
        )
    function = implied or ("sigmoid" if activation == "sigmoid" else None)
    value = before
    if final in ("Softmax", "Sigmoid") and node is not None:
        value = node.inputs[0] or before
    described = Output(SCORE, "raw") if function is None else Output(SCORE, "logits", function)
    return Score(value, described, None, classes, False, of, name, axis)


def class_count(value: ir.Value) -> int:
    """C of a tensor [N, C] (further axes of size 1 allowed anywhere behind N), 1 of [N].

    Raises:
        ExportError: the tensor has another shape.
    """
    sizes = dims(value)
    large = [size for size in sizes[1:] if size != 1]
    if not sizes or len(large) > 1 or None in large:
        shown = ["?" if size is None else size for size in sizes]
        raise ExportError(
            f"output '{value.name}' has shape {shown}; expected one value per class, [N, classes], "
            "or say what the score is of it (element, region, dot, cosine)"
        )
    return large[0] if large and large[0] is not None else 1


def _output(graph: ir.Graph, name: str | None) -> ir.Value:
    names = [value.name for value in graph.outputs]
    if name is None:
        return graph.outputs[0]
    if name not in names:
        raise ExportError(
            f"no output '{name}'; the model's outputs are {', '.join(map(str, names))}"
        )
    return graph.outputs[names.index(name)]


def _final_activation(output: ir.Value) -> ir.Node | None:
    """The Softmax, LogSoftmax or Sigmoid that the output comes out of, if it does."""
    value = output
    while (node := value.producer()) is not None:
        if node.op_type in _FINAL:
            return node if node.op_type == "Sigmoid" or _over_classes(node) else None
        if node.op_type not in _LOOKED_THROUGH or node.inputs[0] is None:
            return None
        if constant(node.inputs[0]) is not None:
            return None
        value = node.inputs[0]
    return None


def _quantisation(output: ir.Value) -> tuple[ir.Value, float, int]:
    """What is quantised to an output of integers, its scale and zero point.

    An output of floats is itself, with 1 and 0.

    Raises:
        ExportError: they are not one constant number each.
    """
    value = output
    while value.dtype not in FLOATS and (node := value.producer()) is not None:
        if node.op_type == "QuantizeLinear":
            scale, zero_point = (constant(v) for v in (*node.inputs[1:3], None)[:2])
            if scale is None or scale.size != 1:
                raise ExportError(
                    f"output '{output.name}': its scale is not one constant number; "
                    "quantise the output by tensor, or leave it in floats"
                )
            zero = 0 if zero_point is None else int(zero_point.item())
            return node.inputs[0] or output, float(scale.item()), zero
        if node.op_type not in _LOOKED_THROUGH or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return output, 1.0, 0


def _over_classes(softmax: ir.Node) -> bool:
    """Whether a softmax normalises the only axis (but for the batch) that is larger than 1."""
    sizes = dims(softmax.outputs[0])
    axis = int_attribute(softmax, "axis", -1) % len(sizes)
    return all(size == 1 for i, size in enumerate(sizes) if i not in (0, axis)) and axis != 0
