"""The opset that an explaining file is written in.

Graphs are differentiated at opset 18 or later, the one that the rules are written for. Afterwards
the whole graph, the model's part as well as the gradient's, is brought to the opset that is wanted.
Between two opsets an operator stays as it is where the standard has not changed it; where it has,
either :mod:`onnxcam_export.lowered.older` knows what became another thing, or only types,
attributes or inputs were added, and the node must do without them.

onnx's own converter is not used here: downwards it knows few operators, and it loses what
exporters note on a node (the framework's layer names).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir

from onnxcam.errors import ExportError
from onnxcam_export.gradient.ops import Ops, names_in
from onnxcam_export.lowered.older import RAISED, ROWS, NotExpressible, Results

LOWEST_WRITTEN, HIGHEST_WRITTEN = 13, 21
REVIEWED = 25  # the latest opset whose changes are known here


def written_as(model: ir.Model, source_opset: int, asked: int | None) -> ir.Model:
    """The model in the opset that is asked for.

    Args:
        model: a whole explaining model; it is not changed.
        source_opset: what the source file was written in.
        asked: the opset, or None for the source's own, if it is not below LOWEST_WRITTEN; where
            the gradient needs a later one, the earliest that has what it needs.

    Raises:
        ExportError: no such opset here, or it cannot say what the graph computes.
    """
    current = model.opset_imports[""]
    if asked is not None:
        _check(asked)
        if asked == current:
            return model
        return (_raised if asked > current else _lowered)(model, asked)
    wanted = max(source_opset, LOWEST_WRITTEN)
    if wanted >= current:
        return model
    attempt = _Attempt(model, wanted)
    if not attempt.refusals:
        return attempt.model
    needed = attempt.needed
    return model if needed >= current else _lowered(model, needed)


def _check(asked: int) -> None:
    whole = isinstance(asked, int) and not isinstance(asked, bool)
    if not whole or not LOWEST_WRITTEN <= asked <= HIGHEST_WRITTEN:
        raise ExportError(
            f"opset: expected a whole number from {LOWEST_WRITTEN} to {HIGHEST_WRITTEN}, got "
            f"{asked!r}"
        )


@dataclass(frozen=True)
class _Refusal:
    """A node that cannot be written, and the opset that it needs."""

    node: ir.Node
    needed: int
    reason: str


def _lowered(model: ir.Model, opset: int) -> ir.Model:
    current = model.opset_imports[""]
    if current > REVIEWED:
        raise ExportError(
            f"opset {opset}: the model is of opset {current}, and what changed after opset "
            f"{REVIEWED} is not known here; leave opset out"
        )
    attempt = _Attempt(model, opset)
    if attempt.refusals:
        worst = max(attempt.refusals, key=lambda refusal: refusal.needed)
        raise ExportError(
            f"opset {opset}: operator {worst.node.op_type} '{worst.node.name}' cannot be written "
            f"in it: {worst.reason}; the lowest opset for this file is {worst.needed}"
        )
    return attempt.model


def _raised(model: ir.Model, opset: int) -> ir.Model:
    """Later opsets only added, but for the operators of :data:`RAISED`."""
    current = model.opset_imports[""]
    model = model.clone()
    op = Ops(names_in(model.graph), opset, prefix="opset/")
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain not in ("", "ai.onnx"):
            continue
        for (name, since), row in RAISED.items():
            if node.op_type == name and current < since <= opset:
                try:
                    row(op, node)
                except NotExpressible as error:
                    raise ExportError(
                        f"opset {opset}: operator {name} '{node.name}' cannot be raised from opset "
                        f"{current}: {error}"
                    ) from error
    model.opset_imports[""] = opset
    return model


@dataclass
class _Attempt:
    """A copy of a model, every node of it in an earlier opset or among the refusals."""

    source: ir.Model
    opset: int
    refusals: list[_Refusal] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = self.source.clone()
        self._current = self.model.opset_imports[""]
        self._op = Ops(names_in(self.model.graph), self._current, prefix="opset/")
        waiting = deque(ir.traversal.RecursiveGraphIterator(self.model.graph))
        while waiting:
            node = waiting.popleft()
            if node.domain in ("", "ai.onnx"):
                waiting.extendleft(reversed(self._lower(node)))
        self._finish()

    @property
    def needed(self) -> int:
        """The earliest opset that has what every node needs."""
        return max(refusal.needed for refusal in self.refusals)

    def _lower(self, node: ir.Node) -> list[ir.Node]:
        """Change by change back to the opset; the nodes that took its place, if any."""
        version = self._current
        while True:
            since = onnx.defs.get_schema(node.op_type, version, "").since_version
            if since <= self.opset:
                return []
            try:
                row = ROWS.get((node.op_type, since))
                results = row(self._op, node) if row is not None else None
                if results is not None:
                    return self._replace(node, results)
                emitted = self._insert(node)
                _fit(node, version, since - 1)
            except (NotExpressible, ExportError) as error:
                self._op.nodes.clear()
                self.refusals.append(_Refusal(node, since, str(error)))
                return []
            if emitted:
                return [*emitted, node]
            version = since - 1

    def _insert(self, node: ir.Node) -> list[ir.Node]:
        emitted, self._op.nodes = self._op.nodes, []
        assert node.graph is not None
        node.graph.insert_before(node, emitted)
        return emitted

    def _replace(self, node: ir.Node, results: Results) -> list[ir.Node]:
        emitted = self._insert(node)
        for old, new in zip(node.outputs, results or (), strict=False):
            if new is None:
                continue
            new.shape, new.type = old.shape, old.type
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
            name, old.name = old.name, f"{old.name}/later"
            new.name = name
        assert node.graph is not None
        node.graph.remove(node, safe=True)
        return emitted

    def _finish(self) -> None:
        graph = self.model.graph
        for constant in self._op.initializers.values():
            graph.register_initializer(constant)
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del graph.initializers[name]
        self.model.opset_imports[""] = self.opset


def _fit(node: ir.Node, version: int, earlier: int) -> None:
    """Take off what says nothing in the earlier form of an operator.

    Raises:
        NotExpressible: the operator, an attribute, an input or a type is not in the earlier form.
    """
    try:
        schema = onnx.defs.get_schema(node.op_type, earlier, "")
    except onnx.defs.SchemaError:
        raise NotExpressible("there was no such operator") from None
    later = onnx.defs.get_schema(node.op_type, version, "")
    for name in [name for name in node.attributes if name not in schema.attributes]:
        default = later.attributes[name].default_value
        given = ir.to_proto(node.attributes[name])
        if onnx.helper.get_attribute_value(given) != _value(default):
            raise NotExpressible(f"there was no attribute {name}")
        del node.attributes[name]
    while node.inputs and node.inputs[-1] is None:
        node.resize_inputs(len(node.inputs) - 1)
    if len(node.inputs) > schema.max_input:
        raise NotExpressible(f"there was no input {len(node.inputs)}")
    for values, formal in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for position, value in enumerate(values):
            if value is None or value.dtype is None or not isinstance(value.type, ir.TensorType):
                continue
            name = f"tensor({value.dtype.name.lower()})"
            if name not in formal[min(position, len(formal) - 1)].types:
                raise NotExpressible(f"it did not take {value.dtype.name.lower()}")


def _value(default: onnx.AttributeProto) -> object:
    return onnx.helper.get_attribute_value(default) if default.type else None
