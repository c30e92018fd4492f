"""Emission of nodes: `op.Mul(a, b)` appends a node and returns its output value.

Python numbers and numpy arrays become constants of the dtype of the other operands, so a rule
reads like the formula it stands for. The dtype of what is emitted is tracked, because a rule
for float16 must make float16 constants; shapes are left to onnx's shape inference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxcam.errors import ExportError

Operand = ir.Value | float | int | npt.NDArray[Any] | None

# What a rule returns for an input: a gradient, None for none, or a function that emits it, called
# only when that gradient is wanted (for what is costly or not always possible).
Grad = ir.Value | Callable[[], ir.Value] | None

FLOATS = frozenset(
    {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}
)
_BOOLEAN = frozenset(
    {
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "And",
        "Or",
        "Xor",
        "Not",
        "IsNaN",
    }
)
_INT64 = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero"})
# Inputs that are int64 whatever the other operands are: operator -> positions.
_INT64_OPERANDS: dict[str, tuple[int, ...]] = {
    "Reshape": (1,),
    "Expand": (1,),
    "Slice": (1, 2, 3, 4),
    "Pad": (1, 3),
    "Tile": (1,),
    "Unsqueeze": (1,),
    "Squeeze": (1,),
    "Split": (1,),
    "Gather": (1,),
    "ConstantOfShape": (0,),
    "ReduceSum": (1,),
    "ReduceMean": (1,),
    "ReduceMax": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceL2": (1,),
    "ReduceL1": (1,),
    "ScatterElements": (1,),
    "ScatterND": (1,),
    "GatherElements": (1,),
    "GatherND": (1,),
    "CumSum": (1,),
    "Trilu": (1,),
    "Range": (0, 1, 2),
}


class Ops:
    """Collects the emitted nodes and constants until they are added to a graph.

    `opset` is the default domain's version that the nodes are written for (18 or later).
    """

    def __init__(self, taken_names: set[str], opset: int, prefix: str = "cam/") -> None:
        self.opset = opset
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self._taken = taken_names
        self._counts: dict[str, int] = {}
        self._prefix = prefix
        self._constants: dict[tuple[Any, ...], ir.Value] = {}
        # What a rule has emitted of the forward pass of a node, for the gradients of further
        # targets: nodes with a subgraph are never merged.
        self.shared: dict[ir.Node, Any] = {}

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)
        return lambda *inputs, **attributes: self.emit(op_type, inputs, attributes)[0]

    def emit(
        self,
        op_type: str,
        inputs: Sequence[Operand],
        attributes: dict[str, Any] | None = None,
        outputs: int = 1,
    ) -> Sequence[ir.Value]:
        """Append a node of the default domain and return its outputs."""
        like = next((d for x in inputs if (d := _dtype(x)) not in (None, ir.DataType.BOOL)), None)
        int_positions = _INT64_OPERANDS.get(op_type, ())
        values = [
            self._operand(x, ir.DataType.INT64 if i in int_positions else like)
            for i, x in enumerate(inputs)
        ]
        attributes = {key: value for key, value in (attributes or {}).items() if value is not None}
        given = [_attribute(key, value) for key, value in attributes.items()]
        node = ir.Node("", op_type, values, given, num_outputs=outputs)
        node.name = self.unused_name(op_type)
        for value in node.outputs:
            value.name = self.unused_name(f"{op_type}_out")
            dtype = _result_dtype(op_type, attributes, values)
            if dtype is not None:
                value.dtype = dtype
        self.nodes.append(node)
        return node.outputs

    def const(self, array: npt.ArrayLike, dtype: ir.DataType | None = None) -> ir.Value:
        """A constant; equal ones are stored once."""
        array = np.asarray(array)
        if dtype is not None:
            array = array.astype(dtype.numpy())
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            name = self.unused_name("const")
            # The ONNX dtype is given beside the array: bfloat16 is no numpy dtype.
            tensor = ir.tensor(np.array(array, order="C"), dtype=dtype, name=name)
            value = ir.Value(
                name=name,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            self._constants[key] = self.initializers[name] = value
        return self._constants[key]

    def ints(self, *values: int) -> ir.Value:
        """An int64 vector, as axes and shapes want it."""
        return self.const(np.array(values, np.int64))

    def inside(self) -> Ops:
        """For the body of a Scan: other nodes, the same names. It can have no constants."""
        return Ops(self._taken, self.opset, self._prefix)

    def replace(self, node: ir.Node, build: Callable[[], ir.Value]) -> None:
        """Let what `build` emits take the place of `node`; the order is put right at the end."""
        ir.convenience.replace_all_uses_with(node.outputs[0], build())
        self.nodes.remove(node)

    def _operand(self, operand: Operand, dtype: ir.DataType | None) -> ir.Value | None:
        if operand is None or isinstance(operand, ir.Value):
            return operand
        if dtype is None:
            raise ExportError(f"cannot tell the dtype of the constant {operand!r}")
        return self.const(operand, dtype)

    def unused_name(self, stem: str) -> str:
        """A name that nothing in the graph has."""
        while True:
            number = self._counts[stem] = self._counts.get(stem, -1) + 1
            name = f"{self._prefix}{stem}_{number}"
            if name not in self._taken:
                self._taken.add(name)
                return name


def _attribute(name: str, value: Any) -> ir.Attr:
    """As ir.convenience would guess it; its guessing takes half of a large model's export."""
    if type(value) is int:
        return ir.AttrInt64(name, value)
    if type(value) in (list, tuple) and value and all(type(item) is int for item in value):
        return ir.AttrInt64s(name, value)
    return ir.convenience.convert_attribute(name, value)


def _dtype(operand: Operand) -> ir.DataType | None:
    return operand.dtype if isinstance(operand, ir.Value) else None


def _result_dtype(
    op_type: str, attributes: dict[str, Any], inputs: Sequence[ir.Value | None]
) -> ir.DataType | None:
    if op_type in _BOOLEAN:
        return ir.DataType.BOOL
    if op_type in _INT64:
        return ir.DataType.INT64
    if op_type == "Cast":
        return ir.DataType(attributes["to"])
    if op_type == "ConstantOfShape":
        value = attributes.get("value")
        return value.dtype if value is not None else ir.DataType.FLOAT
    first = inputs[1] if op_type == "Where" else inputs[0] if inputs else None
    return first.dtype if first is not None else None


def names_in(graph: ir.Graph) -> set[str]:
    """Every name that is taken in a graph."""
    taken = {str(v.name) for v in graph.inputs} | set(graph.initializers)
    for node in graph:
        taken.add(str(node.name))
        taken.update(str(v.name) for v in node.outputs)
    return taken
