"""A plain model and a choice of layer and score become an explaining model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import onnx
import onnx_ir as ir

from onnxcam import contract as names
from onnxcam._version import __version__
from onnxcam.contract import METADATA_KEY, Contract, Picture, Preprocessing
from onnxcam.errors import ContractError, ExportError
from onnxcam.labels import read_labels
from onnxcam.presets import parse_preprocess
from onnxcam_export.chosen_layers import choose_layers, take_activations
from onnxcam_export.emission import emit as emit_gradients
from onnxcam_export.framework_names import NAME_SCOPES
from onnxcam_export.gradient.shapes import dims
from onnxcam_export.heatmap import parse_heatmap
from onnxcam_export.layers import Candidate, Layers
from onnxcam_export.loading import opset_of, prepare
from onnxcam_export.opsets import written_as
from onnxcam_export.score import Score, find_score
from onnxcam_export.sources import GradientOracle, LayerLike, Source
from onnxcam_export.uint8_input import check_input, take_bytes
from onnxcam_export.writing import check, write

EMITTED = ("gradient", "weights", "heatmap")
IR_VERSIONS = (7, 10)  # onnxruntime, -node and -web of today read up to 10

_LATER_DTYPES = frozenset(
    dtype
    for dtype in ir.DataType
    if dtype.name.startswith(("FLOAT8", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2"))
)

PreprocessLike = str | os.PathLike[str] | Mapping[str, Any] | Preprocessing | None
LabelsLike = Sequence[str] | str | os.PathLike[str] | None


@dataclass(frozen=True)
class Built:
    """An explaining model and the choices that were made for it.

    Attributes:
        model: the explaining model.
        contract: what its metadata say.
        layers: the layers explained, and for each of them in `oracles` the framework's own
            autograd in the layout of the layer's tensor; None where the framework did not
            capture the layer.
        score: what is differentiated.
        plain_picture: the plain model's own picture input; the contract's may be bytes.
        unfinished: builds the same file with another `emit` and `input`.
        source_opset: the default operator set of the source; the model may have another.
    """

    model: onnx.ModelProto
    contract: Contract
    layers: tuple[Candidate, ...]
    oracles: tuple[GradientOracle | None, ...]
    score: Score
    plain_picture: Picture
    unfinished: Callable[..., Built]
    source_opset: int

    @property
    def layer(self) -> Candidate:
        """The first layer."""
        return self.layers[0]


def build(
    source: Source,
    *,
    layer: LayerLike = None,
    score: str = "logit",
    activation: str | None = None,
    output_name: str | None = None,
    preprocess: PreprocessLike = None,
    labels: LabelsLike = None,
    size: tuple[int, int] | None = None,
    target_input: bool = True,
    targets: int | None = None,
    emit: str = "gradient",
    method: str | None = None,
    heatmap_size: str | None = None,
    score_of: str = "class",
    input: str = "model",
    input_name: str | None = None,
    grid: tuple[int, ...] | None = None,
    opset: int | None = None,
    output: str | os.PathLike[str] | None = None,
) -> Built:
    """Put the gradient into the graph, the contract into the metadata; write it where asked.

    Raises:
        OnnxcamError: one of its kinds; see the public functions of :mod:`onnxcam_export`.
    """
    _check_options(targets, emit)
    heatmap = parse_heatmap(emit, method, heatmap_size)
    model = prepare(source.model)
    graph = model.graph
    _refuse_explained(model)
    activations = take_activations(graph, source)
    scored = find_score(graph, score, activation, output_name, score_of)
    layers = Layers(graph, scored.value)
    chosen = choose_layers(layers, layer, activations, grid)
    candidates = tuple(candidate for candidate, _ in chosen)
    picture_input = _picture_input(graph, input_name)
    layout = source.picture_layout or _layout(picture_input, layers.axes)
    document = Contract(
        layers=tuple(candidate.layer for candidate in candidates),
        output=scored.output,
        picture=Picture(
            name=str(picture_input.name),
            dtype=str(picture_input.dtype.numpy()) if picture_input.dtype else "float32",
            layout=layout,
            preprocess=_preprocessing(preprocess, picture_input, layout, size),
        ),
        emit=emit,
        score=score,
        labels=_labels(labels, scored.classes),
        producer={"onnxcam": __version__, **source.producer},
        method=heatmap.method if heatmap else None,
        heatmap_size=heatmap.size if heatmap else "map",
    )
    plain_picture = document.picture
    check_input(input, picture_input, plain_picture)
    emit_gradients(
        model, picture_input, scored, candidates, kind=emit, heatmap=heatmap, layout=layout,
        target_input=target_input, per_image=targets,
    )  # fmt: skip
    if input == "uint8":
        taken = take_bytes(model, picture_input, plain_picture)
        document = replace(document, picture=taken)
    source_opset = opset_of(source.model)
    proto = _finish(written_as(model, source_opset, opset), document)
    check(proto)
    if output is not None:
        write(proto, output)
    unfinished = partial(
        build, source, layer=layer, score=score, activation=activation, output_name=output_name,
        preprocess=preprocess, size=size, target_input=target_input, targets=targets,
        score_of=score_of, input_name=input_name, grid=grid, opset=opset,
    )  # fmt: skip
    oracles = tuple(oracle for _, oracle in chosen)
    return Built(
        proto, document, candidates, oracles, scored, plain_picture, unfinished, source_opset
    )


def _check_options(targets: int | None, emit: str) -> None:
    if targets is not None and (
        not isinstance(targets, int) or isinstance(targets, bool) or targets < 1
    ):
        raise ExportError(f"targets: expected a whole number of at least 1, got {targets!r}")
    if emit not in EMITTED:
        raise ExportError(f"emit: expected one of {', '.join(EMITTED)}; got {emit!r}")


def _finish(model: ir.Model, document: Contract) -> onnx.ModelProto:
    """Names, versions and metadata; inferred shapes and traces of the source code left out."""
    for node in model.graph:
        for key in [key for key in node.metadata_props if key != NAME_SCOPES]:
            del node.metadata_props[key]
    for value in [*model.graph.inputs, *model.graph.outputs]:
        value.metadata_props.clear()
    model.ir_version = _ir_version(model)
    model.metadata_props[METADATA_KEY] = document.dumps()
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    return proto


def _ir_version(model: ir.Model) -> int:
    """The lowest that the opset needs: torch writes 10, and onnxruntime 1.17 reads up to 9.

    A file with 8-bit floats or 4-bit numbers, which came with later versions, keeps its own.
    """
    lowest, highest = IR_VERSIONS
    opsets = [onnx.helper.make_opsetid("", model.opset_imports[""])]
    needed = onnx.helper.find_min_ir_version_for(opsets)
    stored = [*model.graph.initializers.values(), *(v for n in model.graph for v in n.outputs)]
    if any(value.dtype in _LATER_DTYPES for value in stored):
        needed = max(needed, model.ir_version)
    return min(max(needed, lowest), highest)


def _refuse_explained(model: ir.Model) -> None:
    """A name of the contract in the source means that it has been through this before."""
    reserved = {
        names.TARGET, names.ACTIVATION, names.GRADIENT, names.WEIGHTS, names.HEATMAP,
        names.SCORE, names.MASK, names.VECTOR,
    }  # fmt: skip
    found = {v.name for v in [*model.graph.inputs, *model.graph.outputs]} & reserved
    if METADATA_KEY in model.metadata_props or found:
        raise ExportError(
            "the model explains already (it has an onnxcam contract or an output named "
            f"{', '.join(sorted(reserved))}); export from the plain model"
        )


def _picture_input(graph: ir.Graph, name: str | None) -> ir.Value:
    """The input of that name, the only one, or the only one of four axes."""
    inputs = [v for v in graph.inputs if not v.is_initializer()]
    listed = ", ".join(f"'{v.name}'" for v in inputs) or "none"
    if name is not None:
        inputs = [v for v in inputs if v.name == name]
        if not inputs:
            raise ExportError(f"no input '{name}'; the model's inputs are {listed}")
    elif len(inputs) > 1:
        inputs = [v for v in inputs if v.shape is not None and len(v.shape) == 4]
    if len(inputs) != 1:
        raise ExportError(
            f"cannot tell which input is the picture (input_name says it); it has {listed}"
        )
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
