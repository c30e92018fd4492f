"""The value of what a graph computes from constants and fixed shapes alone.

Exporters write the shape of a Reshape or the pads of a Pad as a chain of small operators. The
graph keeps them; the rules need their result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

LARGEST = 4096  # elements; shapes, axes, pads and index tables are smaller
_RANDOM = ("RandomNormal", "RandomUniform", "Bernoulli", "Multinomial")
_KEY = "onnxcam.folded"


def folded(value: ir.Value) -> npt.NDArray[Any] | None:
    """The array that `value` always holds, None if it depends on an input or is large."""
    stack = [value]
    while stack:
        current = stack[-1]
        if _KEY in current.meta:
            stack.pop()
            continue
        waiting = [v for v in _operands(current) if _KEY not in v.meta]
        if waiting:
            stack += waiting
        else:
            current.meta[_KEY] = _evaluated(current)
            stack.pop()
    found: npt.NDArray[Any] | None = value.meta[_KEY]
    return found


def _operands(value: ir.Value) -> list[ir.Value]:
    node = value.producer()
    if node is None or node.op_type in ("Shape", "Size") or not _is_small(value):
        return []
    return [v for v in node.inputs if v is not None]


def _is_small(value: ir.Value) -> bool:
    if value.shape is None or not all(isinstance(size, int) for size in value.shape):
        return False
    return int(np.prod([int(size) for size in value.shape])) <= LARGEST  # type: ignore[arg-type]


def _evaluated(value: ir.Value) -> npt.NDArray[Any] | None:
    node = value.producer()
    if value.is_graph_input() or not _is_small(value):
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.numpy()
    if node is None or node.domain not in ("", "ai.onnx") or node.op_type in _RANDOM:
        return None
    if node.op_type in ("Shape", "Size"):
        return _shape(node)
    arrays = [None if v is None else v.meta[_KEY] for v in node.inputs]
    if not arrays or any(
        a is None and v is not None for a, v in zip(arrays, node.inputs, strict=True)
    ):
        return None
    return _run(node, arrays, node.outputs.index(value))


def _shape(node: ir.Node) -> npt.NDArray[Any] | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    sizes = list(source.shape)
    if node.op_type == "Shape":
        start, end = node.attributes.get("start"), node.attributes.get("end")
        sizes = sizes[start.as_int() if start else 0 : end.as_int() if end else None]
    if not all(isinstance(size, int) for size in sizes):
        return None
    array = np.array([int(size) for size in sizes], np.int64)  # type: ignore[arg-type]
    return array if node.op_type == "Shape" else np.array(array.prod(), np.int64)


def _run(
    node: ir.Node, arrays: list[npt.NDArray[Any] | None], position: int
) -> npt.NDArray[Any] | None:
    """One node by onnx's reference evaluator; what it cannot run is not folded."""
    proto = ir.to_proto(node)
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(arrays)]
    del proto.input[:]
    proto.input.extend(names)
    graph = onnx.helper.make_graph(
        [proto], "fold", [onnx.ValueInfoProto(name=n) for n in names if n],
        [onnx.ValueInfoProto(name=proto.output[position])],
    )  # fmt: skip
    opset = node.graph.opset_imports.get("", 18) if isinstance(node.graph, ir.Graph) else 18
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    feed: dict[str, Any] = {n: a for n, a in zip(names, arrays, strict=True) if n}
    try:
        found = ReferenceEvaluator(model).run(None, feed)[0]  # type: ignore[index]
    except Exception:  # whatever the evaluator cannot do stays a computed value
        return None
    return np.asarray(found)
