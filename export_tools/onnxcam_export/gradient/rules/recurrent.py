"""LSTM, GRU and RNN: backpropagation through time.

The forward operator keeps its kernel, and its output Y holds every hidden state; so all gates of
all steps come from two matrix products, and only what is sequential by nature is a Scan: the cell
state, and the way back with 4 to 9 small operators a step, both directions together. Unrolled, two
bidirectional LSTMs of 64 steps were 2,500 nodes, which onnxruntime 1.31 took 8 seconds to load and
6.2 ms to run (128 steps: 37 s and 29 ms); as here they are 300 nodes, 0.05 s and 4.4 ms (11 ms).

Shapes: T steps, N sequences, I inputs, H hidden, D directions, G gates; X [T, N, I], W [D, G H, I],
R [D, G H, H], B [D, 2 G H], Y [T, D, N, H]. Formulas and the order of the gates are those of the
ONNX standard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.rules.arithmetic import _x
from onnxcam_export.gradient.shapes import constant, dims, int_attribute, string_attribute

# Activation -> its derivative, read off its value y.
_SLOPES: dict[str, Callable[[Ops, ir.Value], ir.Value]] = {
    "Sigmoid": lambda op, y: op.Mul(y, op.Sub(1.0, y)),
    "Tanh": lambda op, y: op.Sub(1.0, op.Mul(y, y)),
    "Relu": lambda op, y: op.Cast(op.Greater(y, 0.0), to=y.dtype),
}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_LAST = 2**62

# The body of a Scan: (op, states, rows) -> (next states, rows put out). It has no constants.
Body = Callable[[Ops, list[ir.Value], list[ir.Value]], tuple[list[ir.Value], list[ir.Value]]]


@dataclass(frozen=True)
class Way:
    """What the way back needs of the forward pass.

    `body` maps the states, gradients [D, N, H] at what the step puts out, to those a step before,
    and puts out the gradient at the sums of the gates [D, N, G H]. Each of `factors` is [T, D, N,
    ..], the last step first.
    """

    body: Body
    factors: list[ir.Value]


@dataclass(frozen=True)
class Direction:
    """One direction of a recurrent operator, its tensors without the axis of directions."""

    op: Ops
    node: ir.Node
    number: int
    reverse: bool
    activations: Sequence[str]

    def of(self, position: int) -> ir.Value | None:
        """Input `position` (W, R, B, initial_h, ...), this direction's part, where it is given."""
        value = _given(self.node, position)
        return None if value is None else _part(self.op, self.node, value, self.number, 0)

    def given(self, position: int) -> list[ir.Value]:
        value = self.of(position)
        return [] if value is None else [value]

    def x(self) -> ir.Value:
        """[T * N, I]"""
        return self.op.Reshape(_x(self.node), self.op.ints(-1, _known(_x(self.node), 2)))

    def states(self) -> ir.Value:
        """All hidden states, [T, N, H]."""
        return _part(self.op, self.node, self.node.outputs[0], self.number, 1)

    def before(self) -> ir.Value:
        """The hidden state that each step began with, [T, N, H]."""
        return states_before(self.op, self.states(), self.of(5), self.reverse)

    def in_time(self, rows: ir.Value, width: int) -> ir.Value:
        """[T * N, width] as [T, N, width]."""
        steps = self.op.Shape(_x(self.node), start=0, end=1)
        return self.op.Reshape(rows, self.op.Concat(steps, self.op.ints(-1, width), axis=0))

    def activated(self, which: int, value: ir.Value) -> ir.Value:
        return self.op.emit(self.activations[which], [value])[0]

    def slope(self, which: int, value: ir.Value) -> ir.Value:
        return _SLOPES[self.activations[which]](self.op, value)


def _recurrent(gates: int, prepare: Callable[..., Way]) -> Callable[..., Sequence[Grad]]:
    """The rule of an operator; `prepare` writes the forward quantities of all directions."""

    def rule(
        op: Ops,
        n: ir.Node,
        dy: ir.Value | None,
        dh: ir.Value | None = None,
        dc: ir.Value | None = None,
    ) -> Sequence[Grad]:
        _check(n)
        _ask_for_states(op, n)
        sides = _directions(op, n)
        hidden = _known(_x(n, 2), 2)
        if n not in op.shared:
            op.shared[n] = prepare(op, n, sides, hidden)
        way: Way = op.shared[n]
        states = [_end(op, n, dh)]
        if n.op_type == "LSTM":
            states.append(_end(op, n, dc))
        rows = list(way.factors)
        if dy is not None:
            parts = [_part(op, n, dy, side.number, axis=1) for side in sides]
            rows.append(_stacked(op, sides, parts))

        def body(
            inner: Ops, now: list[ir.Value], row: list[ir.Value]
        ) -> tuple[list[ir.Value], list[ir.Value]]:
            if dy is not None:
                now = [inner.Add(now[0], row[-1]), *now[1:]]
            return way.body(inner, now, row)

        *first, sums = _scan(op, body, states, rows)
        by_x: ir.Value | None = None
        for side in sides:
            part = _ordered(op, side, _part(op, n, sums, side.number, axis=1), backwards=True)
            part = op.Gemm(op.Reshape(part, op.ints(-1, gates * hidden)), side.of(1))
            by_x = part if by_x is None else op.Add(by_x, part)
        dx = op.Reshape(by_x, op.Shape(_x(n)))
        return [dx, None, None, None, None, *first]

    return rule


def _check(n: ir.Node) -> None:
    """Refuses what the formulas do not cover."""
    steps = dims(_x(n))[0]
    reasons = {
        "layout 1 (batch first)": int_attribute(n, "layout", 0) != 0,
        "clip": n.attributes.get("clip") is not None,
        "input_forget": int_attribute(n, "input_forget", 0) != 0,
        "peepholes": n.op_type == "LSTM" and not _is_all(_given(n, 7), 0),
        "sequence_lens other than the whole length": not _is_all(_given(n, 4), steps),
    }
    found = [reason for reason, there in reasons.items() if there]
    if found:
        raise UnsupportedOpError(
            f"no derivative here with {' and '.join(found)}; export the model without, or with the "
            "recurrence unrolled"
        )


def _is_all(value: ir.Value | None, number: int | None) -> bool:
    """Whether an optional input is left out, or holds that number everywhere."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type not in ("Expand", "Tile", "Identity", "Cast", "Unsqueeze"):
            break
        value = node.inputs[0]  # one length, repeated over an open batch
    if value is None:
        return True
    array = constant(value)
    return array is not None and number is not None and bool((array == number).all())


def _directions(op: Ops, n: ir.Node) -> list[Direction]:
    way = string_attribute(n, "direction", "forward")
    numbers = range(2 if way == "bidirectional" else 1)
    return [
        Direction(op, n, number, way == "reverse" or number == 1, _activations(n, number))
        for number in numbers
    ]


def _activations(n: ir.Node, direction: int) -> Sequence[str]:
    defaults = _DEFAULTS[n.op_type]
    attribute = n.attributes.get("activations")
    names = list(defaults) * 2 if attribute is None else list(attribute.as_strings())
    names = names[direction * len(defaults) :][: len(defaults)]
    for name in names:
        if name not in _SLOPES:
            raise UnsupportedOpError(
                f"activation {name} has no derivative here (those of {', '.join(_SLOPES)} have)"
            )
    return names


def _ask_for_states(op: Ops, n: ir.Node) -> None:
    """Where the model does not ask for Y, it does from now on.

    A second operator beside the first was the alternative: twice the cost, and onnxruntime 1.31
    fails to load such a pair ("Argument type mismatch when adding edge": it merges the two).
    """
    states = n.outputs[0]
    if not states.name:
        states.name = op.unused_name("states")
        states.type = _x(n).type


def _lstm(op: Ops, n: ir.Node, sides: list[Direction], hidden: int) -> Way:
    """i, o, f = f(..), c~ = g(..), C = f C' + i c~, H = o h(C)."""
    gates, added = [], []
    for side in sides:
        bias = [op.Add(*_split(op, b, 2)) for b in side.given(3)]
        sums = op.Gemm(side.x(), side.of(1), *bias, transB=1)
        before = op.Reshape(side.before(), op.ints(-1, hidden))
        sums = side.in_time(op.Gemm(before, side.of(2), sums, transB=1), 4 * hidden)
        i, o, f, c = _split(op, sums, 4, axis=2)
        i, o, f = (side.activated(0, gate) for gate in (i, o, f))
        c = side.activated(1, c)
        gates.append((i, o, f, c))
        added.append(op.Mul(i, c))
    forget = [f for _, _, f, _ in gates]

    def cell(
        inner: Ops, now: list[ir.Value], row: list[ir.Value]
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        state = inner.Add(inner.Mul(row[0], now[0]), row[1])
        return [state], [inner.Identity(state)]

    initial = _given(n, 6) or _end(op, n, None)
    rows = [_stacked(op, sides, values, backwards=False) for values in (forget, added)]
    _, cells = _scan(op, cell, [initial], rows)
    outputs, factors = [], []
    for side, (i, o, f, c) in zip(sides, gates, strict=True):
        own = _ordered(op, side, _part(op, n, cells, side.number, axis=1), backwards=False)
        own_before = states_before(op, own, side.of(6), side.reverse)
        out = side.activated(2, own)
        outputs.append(op.Mul(o, side.slope(2, out)))
        by_gate = [
            op.Mul(c, side.slope(0, i)), op.Mul(out, side.slope(0, o)),
            op.Mul(own_before, side.slope(0, f)), op.Mul(i, side.slope(1, c)),
        ]  # fmt: skip
        factors.append(op.Concat(*by_gate, axis=2))

    def body(
        inner: Ops, now: list[ir.Value], row: list[ir.Value]
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        dh, (through, factor, kept_now) = now[0], row[:3]
        dc = inner.Add(now[1], inner.Mul(dh, through))
        da = inner.Mul(inner.Concat(dc, dh, dc, dc, axis=2), factor)
        return [inner.MatMul(da, _x(n, 2)), inner.Mul(dc, kept_now)], [da]

    return Way(body, [_stacked(op, sides, values) for values in (outputs, factors, forget)])


def _gru(op: Ops, n: ir.Node, sides: list[Direction], hidden: int) -> Way:
    """z, r = f(..), h~ = g(..), H = (1 - z) h~ + z H'."""
    after = int_attribute(n, "linear_before_reset", 0) != 0
    parts: list[list[ir.Value]] = []
    for side in sides:
        before, recurrence = side.before(), side.of(2)
        biases = [_split(op, b, 2) for b in side.given(3)]
        of_x = op.Gemm(side.x(), side.of(1), *[of_w for of_w, _ in biases], transB=1)
        to_gates, to_new = _cut(op, recurrence, 2 * hidden)
        of_r = [_cut(op, b, 2 * hidden) for _, b in biases]
        x_gates, x_new = _cut(op, of_x, 2 * hidden, axis=1)
        rows = op.Reshape(before, op.ints(-1, hidden))
        h_gates = op.Gemm(rows, to_gates, *[first for first, _ in of_r], transB=1)
        sums = side.in_time(op.Add(x_gates, h_gates), 2 * hidden)
        z, r = _split(op, side.activated(0, sums), 2, axis=2)
        inner_rows = rows if after else op.Reshape(op.Mul(r, before), op.ints(-1, hidden))
        product = op.Gemm(inner_rows, to_new, *[second for _, second in of_r], transB=1)
        product = side.in_time(product, hidden)
        x_new = side.in_time(x_new, hidden)
        new = side.activated(1, op.Add(x_new, op.Mul(r, product) if after else product))
        parts.append([
            op.Mul(op.Sub(before, new), side.slope(0, z)),
            op.Mul(op.Sub(1.0, z), side.slope(1, new)),
            op.Mul(product if after else before, side.slope(0, r)),
            z,
            r,
        ])  # fmt: skip

    def body(
        inner: Ops, now: list[ir.Value], row: list[ir.Value]
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        dh, (by_z, by_new, by_r, kept, reset) = now[0], row[:5]
        dz, dn = inner.Mul(dh, by_z), inner.Mul(dh, by_new)
        straight = inner.Mul(dh, kept)
        if after:  # h~ = g(.. + r (H' R + b))
            dr = inner.Mul(dn, by_r)
            sums = inner.Concat(dz, dr, inner.Mul(dn, reset), axis=2)
        else:  # h~ = g(.. + (r H') R + b); zeros in place of R's parts, which would be copies
            none = inner.Sub(dn, dn)
            inside = inner.MatMul(inner.Concat(none, none, dn, axis=2), _x(n, 2))
            dr = inner.Mul(inside, by_r)
            straight = inner.Add(straight, inner.Mul(inside, reset))
            sums = inner.Concat(dz, dr, none, axis=2)
        dh = inner.Add(straight, inner.MatMul(sums, _x(n, 2)))
        return [dh], [inner.Concat(dz, dr, dn, axis=2)]

    return Way(body, [_stacked(op, sides, list(part)) for part in zip(*parts, strict=True)])


def _rnn(op: Ops, n: ir.Node, sides: list[Direction], hidden: int) -> Way:
    """H = f(X W + H' R + b)."""
    slopes = _stacked(op, sides, [side.slope(0, side.states()) for side in sides])

    def body(
        inner: Ops, now: list[ir.Value], row: list[ir.Value]
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        da = inner.Mul(now[0], row[0])
        return [inner.MatMul(da, _x(n, 2))], [da]

    return Way(body, [slopes])


def _scan(op: Ops, body: Body, states: list[ir.Value], rows: list[ir.Value]) -> Sequence[ir.Value]:
    """The last states, and what the body puts out, along the first axis of the rows.

    The body may read values of the forward graph (R); emitted ones would be pruned.
    """
    inner = op.inside()
    inputs = [
        ir.Value(name=op.unused_name("scanned"), type=value.type or ir.TensorType(dtype))
        for value in [*states, *rows]
        if (dtype := value.dtype) is not None
    ]
    after, out = body(inner, inputs[: len(states)], inputs[len(states) :])
    graph = ir.Graph(
        inputs, [*after, *out], nodes=inner.nodes, opset_imports={"": op.opset},
        name=op.unused_name("step"),
    )  # fmt: skip
    attributes = {"body": graph, "num_scan_inputs": len(rows)}
    return op.emit("Scan", [*states, *rows], attributes, outputs=len(after) + len(out))


def states_before(op: Ops, states: ir.Value, initial: ir.Value | None, reverse: bool) -> ir.Value:
    """The states [T, N, H] moved on by a step, the initial one in the first place."""
    if initial is None:
        initial = op.Slice(states, op.ints(0), op.ints(1), op.ints(0))
        initial = op.Expand(op.const(0.0, states.dtype), op.Shape(initial))
    else:
        initial = op.Unsqueeze(initial, op.ints(0))
    if reverse:
        return op.Concat(op.Slice(states, op.ints(1), op.ints(_LAST), op.ints(0)), initial, axis=0)
    return op.Concat(initial, op.Slice(states, op.ints(0), op.ints(-1), op.ints(0)), axis=0)


def _ordered(op: Ops, side: Direction, value: ir.Value, backwards: bool) -> ir.Value:
    """From the order of time to that of the steps (the last one first) along axis 0, or back.

    Slices rather than Scan's own directions, which fewer runtimes know, onnx's evaluator neither.
    """
    if side.reverse == backwards:
        return value
    return op.Slice(value, op.ints(-1), op.ints(-_LAST), op.ints(0), op.ints(-1))


def _stacked(
    op: Ops, sides: Sequence[Direction], values: Sequence[ir.Value], backwards: bool = True
) -> ir.Value:
    """Each direction's [T, N, ..], as one [T, D, N, ..] in the order of a Scan."""
    rows = [
        op.Unsqueeze(_ordered(op, side, value, backwards), op.ints(1))
        for side, value in zip(sides, values, strict=True)
    ]
    return rows[0] if len(rows) == 1 else op.Concat(*rows, axis=1)


def _given(n: ir.Node, position: int) -> ir.Value | None:
    return n.inputs[position] if position < len(n.inputs) else None


def _part(op: Ops, n: ir.Node, value: ir.Value, number: int, axis: int) -> ir.Value:
    """One direction's part, without the axis of directions."""
    if string_attribute(n, "direction", "forward") != "bidirectional":
        return op.Squeeze(value, op.ints(axis))
    return op.Gather(value, op.const(number), axis=axis)


def _end(op: Ops, n: ir.Node, grad: ir.Value | None) -> ir.Value:
    """The gradient at the last state [D, N, H], zeros where none flows."""
    if grad is not None:
        return grad
    states = n.outputs[0]
    return op.Expand(op.const(0.0, states.dtype), op.Shape(states, start=1))


def _split(op: Ops, value: ir.Value, parts: int, axis: int = 0) -> Sequence[ir.Value]:
    return op.emit("Split", [value], {"axis": axis, "num_outputs": parts}, outputs=parts)


def _cut(op: Ops, value: ir.Value | None, at: int, axis: int = 0) -> Sequence[ir.Value]:
    """What lies before position `at` of an axis, and what behind it."""
    return [
        op.Slice(value, op.ints(0), op.ints(at), op.ints(axis)),
        op.Slice(value, op.ints(at), op.ints(_LAST), op.ints(axis)),
    ]


def _known(value: ir.Value, axis: int) -> int:
    size = dims(value)[axis]
    if size is None:
        raise UnsupportedOpError("the number of its inputs is not fixed")
    return size


TABLE = {
    ("", "LSTM"): _recurrent(4, _lstm),
    ("", "GRU"): _recurrent(3, _gru),
    ("", "RNN"): _recurrent(1, _rnn),
}
