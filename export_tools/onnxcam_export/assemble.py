"""A plain model and a choice of layer and score become an explaining model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir

from onnxcam import contract as names
from onnxcam._version import __version__
from onnxcam.contract import METADATA_KEY, Contract, Picture, Preprocessing
from onnxcam.errors import ContractError, ExportError
from onnxcam.labels import read_labels
from onnxcam.presets import parse_preprocess
from onnxcam_export.framework_names import NAME_SCOPES
from onnxcam_export.gradient import Ops, gradient
from onnxcam_export.gradient.shapes import dims
from onnxcam_export.layers import Candidate, Layers, channels_first
from onnxcam_export.loading import prepare
from onnxcam_export.rewrites import REWRITES, prune
from onnxcam_export.score import Score, find_score
from onnxcam_export.sources import Source
from onnxcam_export.target import one_hot_seed, resolve_target
from onnxcam_export.writing import check, write

IR_VERSIONS = (8, 10)  # onnxruntime, -node and -web of today read up to 10

PreprocessLike = str | os.PathLike[str] | Mapping[str, Any] | Preprocessing | None
LabelsLike = Sequence[str] | str | os.PathLike[str] | None


@dataclass(frozen=True)
class Built:
    """An explaining model and the choices that were made for it."""

    model: onnx.ModelProto
    contract: Contract
    layer: Candidate
    score: Score


def build(
    source: Source,
    *,
    layer: str | None = None,
    score: str = "logit",
    activation: str | None = None,
    output_name: str | None = None,
    preprocess: PreprocessLike = None,
    labels: LabelsLike = None,
    size: tuple[int, int] | None = None,
    target_input: bool = True,
    output: str | os.PathLike[str] | None = None,
) -> Built:
    """Put the gradient into the graph, the contract into the metadata; write it where asked.

    Raises:
        OnnxcamError: one of its kinds; see the public functions of :mod:`onnxcam_export`.
    """
    model = prepare(source.model)
    graph = model.graph
    _refuse_explained(model)
    captured = graph.outputs.pop() if source.activation is not None else None
    scored = find_score(graph, score, activation, output_name)
    layers = Layers(graph, scored.value)
    if captured is not None:
        axis = _captured_axis(captured, source.channels_last)
        candidate = layers.of_value(captured, source.layer_name or str(captured.name), "", axis)
    else:
        candidate = layers.find(layer)
    picture_input = _picture_input(graph)
    layout = source.picture_layout or _layout(picture_input, layers.axes)
    document = Contract(
        layers=(candidate.layer,),
        output=scored.output,
        picture=Picture(
            name=str(picture_input.name),
            dtype=str(picture_input.dtype.numpy()) if picture_input.dtype else "float32",
            layout=layout,
            preprocess=_preprocessing(preprocess, picture_input, layout, size),
        ),
        score=score,
        labels=_labels(labels, scored.classes),
        producer={"onnxcam": __version__, **source.producer},
    )
    _emit(model, scored, candidate, target_input)
    proto = _finish(model, document)
    check(proto)
    if output is not None:
        write(proto, output)
    return Built(proto, document, candidate, scored)


def _emit(model: ir.Model, scored: Score, candidate: Candidate, target_input: bool) -> None:
    graph = model.graph
    forward = list(graph)
    op = Ops(_names(graph), model.opset_imports[""])
    output = next(v for v in graph.outputs if v.name == scored.output.name)
    picture = _picture_input(graph)
    batch = picture.shape[0] if picture.shape is not None else ir.SymbolicDim("batch")
    target = resolve_target(op, output, scored.classes, batch, target_input)
    value = scored.value
    if scored.append is not None:
        value = _append(op, scored)
        forward += [n for n in op.nodes if value in n.outputs]
    seed = one_hot_seed(op, target, value)
    grad = gradient(op, forward, value, seed, candidate.value)
    # Exposed before the rewrites, which may replace the node that `grad` comes from.
    outputs = [
        _exposed(op, candidate.value, candidate, names.ACTIVATION),
        _exposed(op, grad, candidate, names.GRADIENT),
    ]
    for rewrite in REWRITES:
        rewrite(op, target, seed)
    prune(op, set(outputs))
    graph.extend(op.nodes)
    graph.sort()  # rewrites append where they should insert
    for constant in op.initializers.values():
        graph.register_initializer(constant)
    if target.input is not None:
        graph.inputs.append(target.input)
    graph.outputs.extend(outputs)


def _append(op: Ops, scored: Score) -> ir.Value:
    """Emit the probability of a model that ends in logits."""
    sizes = dims(scored.value)
    axis = next((i for i, size in enumerate(sizes) if i > 0 and size != 1), 1)
    logit = scored.value
    value = op.Softmax(logit, axis=axis) if scored.append == "softmax" else op.Sigmoid(logit)
    value.shape = logit.shape
    return value


def _exposed(op: Ops, value: ir.Value, candidate: Candidate, name: str) -> ir.Value:
    """`value` as a float32 output, channels first."""
    assert candidate.value.shape is not None
    order = channels_first(len(candidate.value.shape), candidate.channel_axis)
    if order != sorted(order):
        value = op.Transpose(value, perm=order)
    if candidate.value.dtype != ir.DataType.FLOAT:
        value = op.Cast(value, to=ir.DataType.FLOAT)
    output = op.Identity(value)
    output.name = name
    output.dtype = ir.DataType.FLOAT
    output.shape = ir.Shape([candidate.value.shape[axis] for axis in order])
    return output


def _finish(model: ir.Model, document: Contract) -> onnx.ModelProto:
    """Names, versions and metadata; inferred shapes and traces of the source code left out."""
    for node in model.graph:
        for key in [key for key in node.metadata_props if key != NAME_SCOPES]:
            del node.metadata_props[key]
    for value in [*model.graph.inputs, *model.graph.outputs]:
        value.metadata_props.clear()
    model.ir_version = min(max(model.ir_version, IR_VERSIONS[0]), IR_VERSIONS[1])
    model.metadata_props[METADATA_KEY] = document.dumps()
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    return proto


def _names(graph: ir.Graph) -> set[str]:
    taken = {str(v.name) for v in graph.inputs} | set(graph.initializers)
    for node in graph:
        taken.add(str(node.name))
        taken.update(str(v.name) for v in node.outputs)
    return taken


def _refuse_explained(model: ir.Model) -> None:
    """A name of the contract in the source means that it has been through this before."""
    reserved = {names.TARGET, names.ACTIVATION, names.GRADIENT, names.WEIGHTS, names.HEATMAP}
    found = {v.name for v in [*model.graph.inputs, *model.graph.outputs]} & reserved
    if METADATA_KEY in model.metadata_props or found:
        raise ExportError(
            "the model explains already (it has an onnxcam contract or an output named "
            f"{', '.join(sorted(reserved))}); export from the plain model"
        )


def _captured_axis(value: ir.Value, channels_last: bool | None) -> int | None:
    if channels_last is None or value.shape is None:
        return None
    return len(value.shape) - 1 if channels_last else 1


def _picture_input(graph: ir.Graph) -> ir.Value:
    inputs = [v for v in graph.inputs if not v.is_initializer()]
    if len(inputs) != 1:
        listed = ", ".join(f"'{v.name}'" for v in inputs) or "none"
        raise ExportError(f"expected a model with one input, the picture; it has {listed}")
    return inputs[0]


def _layout(value: ir.Value, axes: Mapping[ir.Value, int]) -> str:
    """NCHW or NHWC: as the operators around the input say, else where 1 or 3 channels stand."""
    sizes = dims(value) if value.shape is not None else []
    axis = axes.get(value)
    if axis is None and len(sizes) == 4 and sizes[1] not in (1, 3) and sizes[3] in (1, 3):
        axis = 3
    return "NHWC" if axis is not None and axis == len(sizes) - 1 and axis > 1 else "NCHW"


def input_size(value: ir.Value, layout: str) -> tuple[int, int] | None:
    """(height, width) of the picture input, None where they are open."""
    sizes = dims(value) if value.shape is not None else []
    if len(sizes) != 4:
        return None
    height, width = sizes[1:3] if layout == "NHWC" else sizes[2:4]
    return None if height is None or width is None else (height, width)


def _preprocessing(
    spec: PreprocessLike, value: ir.Value, layout: str, size: tuple[int, int] | None
) -> Preprocessing | None:
    if spec is None:
        return None
    fixed = input_size(value, layout)
    if fixed is not None and size is not None and fixed != size:
        raise ExportError(
            f"input size: the model takes {fixed[0]}x{fixed[1]}, got {size[0]}x{size[1]}"
        )
    found = parse_preprocess(spec, fixed or size)
    if found is not None:
        sizes = dims(value) if value.shape is not None else []
        channels = sizes[3 if layout == "NHWC" else 1] if len(sizes) == 4 else None
        if channels is not None and channels != found.channels:
            raise ExportError(
                f"preprocess: color {found.color!r} gives {found.channels} channels, the model's "
                f"input '{value.name}' takes {channels}"
            )
    return found


def _labels(labels: LabelsLike, classes: int) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if isinstance(labels, (str, os.PathLike)):
        labels = read_labels(labels)
    if len(labels) != classes:
        raise ContractError(f"labels: expected {classes}, one per class; got {len(labels)}")
    return tuple(str(label) for label in labels)
