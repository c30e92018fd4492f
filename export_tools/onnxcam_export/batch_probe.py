"""What no inference tells while the batch is open, found by trying two batch sizes.

Files with a dynamic batch compute the targets of their Reshapes from Shape: [batch, C, -1] is
no constant, so onnx infers nothing behind it, although only the batch is open. With a number in
its place everything folds; what is the same for both numbers does not depend on the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxcam_export.gradient.folding import LARGEST, folded
from onnxcam_export.gradient.inference import complete_shapes
from onnxcam_export.gradient.shapes import is_nameless

_PROBES = (5, 7)  # primes, so that a product is told from a coincidence


@dataclass(frozen=True)
class _Probe:
    """Per value: its shape, and the array of whole numbers that it holds."""

    shapes: dict[str, list[int]]
    arrays: dict[str, npt.NDArray[Any]]


def fill_open_shapes(model: ir.Model, proto: onnx.ModelProto) -> None:
    """Give `model`'s values the shapes and constants that two numbers for the batch agree on.

    The graph computes on as before: a constant is noted beside the value (`const_value`), where
    the derivatives look for it.

    Nothing is done where the inputs have other open axes than the first, or no value lacks a
    shape.
    """
    batch = _open_batch(proto)
    if batch is None or not any(_is_vague(value) for node in model.graph for value in node.outputs):
        return
    first, second = (_probed(proto, size) for size in _PROBES)
    for node in model.graph:
        for value in node.outputs:
            name = str(value.name)
            if _is_vague(value) and name in first.shapes and name in second.shapes:
                merged = _merged(first.shapes[name], second.shapes[name], batch)
                if merged is not None:
                    value.shape = merged
            array = first.arrays.get(name)
            same = array is not None and np.array_equal(array, second.arrays.get(name, np.nan))
            if same and array is not None and value.const_value is None:
                value.const_value = ir.tensor(array, name=name)


def _open_batch(proto: onnx.ModelProto) -> str | None:
    """The name of the open first axis of the inputs, None where other axes are open."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    batch = None
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in constants:
            continue
        if any(not d.HasField("dim_value") for d in dims[1:]):
            return None
        if dims and not dims[0].HasField("dim_value"):
            batch = dims[0].dim_param or "batch"
    return batch


def _probed(proto: onnx.ModelProto, batch: int) -> _Probe:
    probe = _without_weights(proto)
    for value in (*probe.graph.input, *probe.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = batch
    try:
        probe = onnx.shape_inference.infer_shapes(probe, data_prop=True)
    except Exception:  # best effort, as in `prepare`: the shapes stay open
        return _Probe({}, {})
    model = ir.from_proto(probe)
    passes.InlinePass()(model)
    complete_shapes(model.graph, model.opset_imports.get("", 18))
    shapes, arrays = {}, {}
    for node in model.graph:
        for value in node.outputs:
            if value.shape is None or not all(isinstance(size, int) for size in value.shape):
                continue
            shapes[str(value.name)] = [int(size) for size in value.shape if isinstance(size, int)]
            if value.dtype == ir.DataType.INT64 and node.op_type != "Constant":
                array = folded(value)
                if array is not None:
                    arrays[str(value.name)] = array
    return _Probe(shapes, arrays)


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large constants are inputs: only their shapes matter here."""
    source = proto.graph
    small = [t for t in source.initializer if int(np.prod(t.dims)) <= LARGEST]
    kept = {tensor.name for tensor in small}
    weights = [
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in source.initializer
        if tensor.name not in kept
    ]
    listed = {tensor.name for tensor in weights}
    inputs = [value for value in source.input if value.name not in listed]
    graph = onnx.helper.make_graph(
        source.node, source.name, [*inputs, *weights], source.output, small
    )
    return onnx.helper.make_model(
        graph, opset_imports=proto.opset_import, functions=proto.functions
    )


def _merged(first: list[int], second: list[int], batch: str) -> ir.Shape | None:
    if len(first) != len(second):
        return None
    sizes: list[int | str | None] = []
    for a, b in zip(first, second, strict=True):
        times, rest = divmod(a, _PROBES[0])
        if a == b:
            sizes.append(a)
        elif rest == 0 and b == times * _PROBES[1]:
            sizes.append(batch if times == 1 else f"{times}*{batch}")
        else:
            sizes.append(None)
    return ir.Shape(sizes)


def _is_vague(value: ir.Value) -> bool:
    return value.shape is None or any(map(is_nameless, value.shape))
