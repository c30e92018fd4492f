"""From a file, bytes or a ModelProto to a graph that is ready to be differentiated.

Ready means: default opset 18 or later, functions inlined, shapes inferred, initializers no
longer listed among the inputs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import google.protobuf.message
import onnx
import onnx.external_data_helper
import onnx.version_converter
import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxcam.errors import ModelError
from onnxcam_export.batch_probe import fill_open_shapes
from onnxcam_export.lowering import lower
from onnxcam_export.ordered_gather import reshape_in_place_of_ordered_gathers
from onnxcam_export.pad_before_pool import name_axes_of_pads_before_pools

LOWEST_OPSET = 18
ASYMMETRIC_RESIZE = 10  # the last opset with it
MODEL_SUFFIXES = (".onnx", ".ort")

ModelLike = onnx.ModelProto | bytes | str | os.PathLike[str]


def load_proto(model: ModelLike) -> onnx.ModelProto:
    """Read a model; external data is loaded and must lie inside the model's folder.

    Raises:
        ModelError: no such file, empty, truncated, not ONNX, or external data outside the folder.
    """
    if isinstance(model, onnx.ModelProto):
        return model
    if isinstance(model, bytes):
        return _parse(model, "the given bytes")
    path = Path(model)
    if not path.exists():
        raise ModelError(f"no such file: {path}")
    if path.is_dir():
        raise ModelError(f"{path} is a folder; expected an ONNX file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    proto = _parse(content, str(path))
    _load_external_data(proto, path)
    return proto


def prepare(proto: onnx.ModelProto) -> ir.Model:
    """A graph ready to be differentiated; `proto` is not changed.

    Raises:
        ModelError: onnx cannot bring the file's opset up to the one the rules are written for.
    """
    proto = _raise_opset(proto)
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:
        # Data propagation is best effort and fails on some graphs; the plain inference may not.
        try:
            proto = onnx.shape_inference.infer_shapes(proto)
        except Exception as error:
            raise ModelError(
                f"onnx cannot infer the model's shapes: {_first_line(error)}"
            ) from error
    model = ir.from_proto(proto)
    passes.InlinePass()(model)
    passes.RemoveInitializersFromInputsPass()(model)
    fill_open_shapes(model, proto)
    lower(model)
    reshape_in_place_of_ordered_gathers(model.graph, model.opset_imports[""])
    name_axes_of_pads_before_pools(model.graph)
    return model


def opset_of(proto: onnx.ModelProto) -> int:
    """Version of the default operator set."""
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)


def _parse(content: bytes, name: str) -> onnx.ModelProto:
    if not content:
        raise ModelError(f"{name} is empty; expected an ONNX model")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except google.protobuf.message.DecodeError as error:
        raise ModelError(f"{name} is truncated or not an ONNX model") from error
    if not proto.HasField("graph") or not proto.graph.node or not proto.opset_import:
        raise ModelError(f"{name} is not an ONNX model: it holds no graph")
    return proto


def _load_external_data(proto: onnx.ModelProto, path: Path) -> None:
    folder = path.parent.resolve()
    for tensor in _tensors(proto):
        if not onnx.external_data_helper.uses_external_data(tensor):
            continue
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        target = (folder / location).resolve()
        if not location or not target.is_relative_to(folder):
            raise ModelError(
                f"{path}: tensor '{tensor.name}' refers to data outside the model's folder "
                f"('{location}'); refused"
            )
        if not target.is_file():
            raise ModelError(f"{path}: its weights' file '{location}' is missing beside it")
    try:
        onnx.external_data_helper.load_external_data_for_model(proto, str(folder))
    except Exception as error:
        raise ModelError(f"{path}: cannot read its external data: {_first_line(error)}") from error


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from proto.graph.initializer
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _raise_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    opset = opset_of(proto)
    if opset >= LOWEST_OPSET:
        return proto
    try:
        raised = onnx.version_converter.convert_version(proto, LOWEST_OPSET)
    except Exception as error:
        raise ModelError(
            f"onnx cannot bring this model from opset {opset} to {LOWEST_OPSET}: "
            f"{_first_line(error)}"
        ) from error
    if opset <= ASYMMETRIC_RESIZE:
        # Upsample and the first Resize sampled so; the converter leaves Resize's later default.
        for node in raised.graph.node:
            if node.op_type == "Resize":
                node.attribute.extend(
                    [
                        onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"),
                        onnx.helper.make_attribute("nearest_mode", "floor"),
                    ]
                )
    # The converter forgets these.
    del raised.metadata_props[:]
    raised.metadata_props.extend(proto.metadata_props)
    raised.producer_name, raised.producer_version = proto.producer_name, proto.producer_version
    return raised


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
