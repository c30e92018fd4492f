"""LSTM, GRU and RNN: backpropagation through time, unrolled.

The forward operator keeps its kernel, and its output Y holds every hidden state; so all gates of
all steps come from two matrix products, and only what is sequential by nature is written step by
step: the cell state (2 nodes a step) and the way back (4 to 8 nodes a step). Scan was the
alternative: a graph of fixed size, but a subgraph that no rewrite looks into and that few runtimes
in browsers run; and differentiating an unrolled forward pass by the rules would take five times
the nodes.

Shapes: T steps, N sequences, I inputs, H hidden, D directions; X [T, N, I], Y [T, D, N, H].
Formulas and the order of the gates are those of the ONNX standard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient.ops import Grad, Ops
from onnxcam_export.gradient.rules.arithmetic import _x
from onnxcam_export.gradient.shapes import (
    constant,
    dims,
    int_attribute,
    string_attribute,
)

# Activation -> its derivative, read off its value y.
_SLOPES: dict[str, Callable[[Ops, ir.Value], ir.Value]] = {
    "Sigmoid": lambda op, y: op.Mul(y, op.Sub(1.0, y)),
    "Tanh": lambda op, y: op.Sub(1.0, op.Mul(y, y)),
    "Relu": lambda op, y: op.Cast(op.Greater(y, 0.0), to=y.dtype),
}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}

# One step back: (time, dh) -> (gradient at the gates' sums [1, N, gates * H], dh a step before).
Step = Callable[[int, ir.Value], tuple[ir.Value, ir.Value]]


@dataclass(frozen=True)
class Direction:
    """One direction of a recurrent operator, its tensors without the axis of directions."""

    op: Ops
    node: ir.Node
    number: int
    steps: int
    reverse: bool
    activations: Sequence[str]
    x: ir.Value  # [T * N, I]
    hidden: int

    def of(self, position: int) -> ir.Value | None:
        """Input `position` (W, R, B, initial_h, ...), this direction's part, where it is given."""
        value = _given(self.node, position)
        return None if value is None else _part(self.op, self.node, value, self.number, 0)

    def states_before(self, states: ir.Value, initial: ir.Value | None) -> ir.Value:
        """The states [T, N, H] moved on by a step, the initial one in the first place."""
        op, end = self.op, self.steps
        first = end - 1 if self.reverse else 0
        if initial is None:
            some = op.Slice(states, op.ints(first), op.ints(first + 1), op.ints(0))
            initial = op.Expand(op.const(0.0, states.dtype), op.Shape(some))
        else:
            initial = op.Unsqueeze(initial, op.ints(0))
        if end == 1:
            return initial
        if self.reverse:
            return op.Concat(
                op.Slice(states, op.ints(1), op.ints(end), op.ints(0)), initial, axis=0
            )
        return op.Concat(
            initial, op.Slice(states, op.ints(0), op.ints(end - 1), op.ints(0)), axis=0
        )

    def in_time(self, rows: ir.Value) -> ir.Value:
        """[T * N, n] as [T, N, n]."""
        width = self.op.Shape(rows, start=1, end=2)
        return self.op.Reshape(rows, self.op.Concat(self.op.ints(self.steps, -1), width, axis=0))

    def in_rows(self, value: ir.Value, gates: int = 1) -> ir.Value:
        """[T, N, gates * H] as [T * N, gates * H]."""
        return self.op.Reshape(value, self.op.ints(-1, gates * self.hidden))

    def activated(self, which: int, value: ir.Value) -> ir.Value:
        return self.op.emit(self.activations[which], [value])[0]

    def slope(self, which: int, value: ir.Value) -> ir.Value:
        return _SLOPES[self.activations[which]](self.op, value)

    def order(self) -> list[int]:
        """Times, first step first."""
        return list(range(self.steps))[:: -1 if self.reverse else 1]


def _recurrent(gates: int, prepare: Callable[..., Step]) -> Callable[..., Sequence[Grad]]:
    """The rule of an operator; `prepare` computes the gates of a direction and returns its step."""

    def rule(
        op: Ops,
        n: ir.Node,
        dy: ir.Value | None,
        dh: ir.Value | None = None,
        dc: ir.Value | None = None,
    ) -> Sequence[Grad]:
        steps = _check(n)
        x, width, hidden = _x(n), _known(_x(n), 2), _known(_x(n, 2), 2)
        way = string_attribute(n, "direction", "forward")
        rows = op.Reshape(x, op.ints(-1, width))
        states = _states(op, n)
        by_x: list[ir.Value] = []
        by_h: list[ir.Value] = []
        by_c: list[ir.Value] = []
        for number in range(2 if way == "bidirectional" else 1):
            own = _part(op, n, states, number, axis=1)
            side = Direction(
                op, n, number, steps, way == "reverse" or number == 1, _activations(n, number),
                rows, hidden,
            )  # fmt: skip
            before = side.states_before(own, side.of(5))
            cell = [_end(op, dc, number, before)]  # the gradient at the cell state, step by step
            step = prepare(side, own, before, cell)
            sums, first = _back(side, step, dy, _end(op, dh, number, before))
            by_x.append(op.Gemm(side.in_rows(sums, gates), side.of(1)))
            by_h.append(first)
            by_c.append(cell[-1])
        total = by_x[0] if len(by_x) == 1 else op.Add(*by_x)
        dx = op.Reshape(total, op.ints(steps, -1, width))
        return [dx, None, None, None, None, _joined(op, by_h), _joined(op, by_c)]

    return rule


def _joined(op: Ops, parts: list[ir.Value]) -> Callable[[], ir.Value]:
    return lambda: parts[0] if len(parts) == 1 else op.Concat(*parts, axis=0)


def _check(n: ir.Node) -> int:
    """The number of steps; refuses what the formulas do not cover."""
    steps = dims(_x(n))[0]
    if steps is None:
        raise UnsupportedOpError(
            "the length of its sequence is not fixed; export the model with a fixed length (for a "
            "picture: a fixed width)"
        )
    reasons = {
        "layout 1 (batch first)": int_attribute(n, "layout", 0) != 0,
        "clip": n.attributes.get("clip") is not None,
        "input_forget": int_attribute(n, "input_forget", 0) != 0,
        "peepholes": n.op_type == "LSTM" and not _is_all(_given(n, 7), 0),
        "sequence_lens shorter than the sequence": not _is_all(_given(n, 4), steps),
    }
    found = [reason for reason, there in reasons.items() if there]
    if found:
        raise UnsupportedOpError(
            f"{' and '.join(found)} has no derivative here; export the model without it, or with "
            "the recurrence unrolled"
        )
    return steps


def _is_all(value: ir.Value | None, number: int) -> bool:
    """Whether an optional input is left out, or holds that number everywhere."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type not in ("Expand", "Tile", "Identity", "Cast", "Unsqueeze"):
            break
        value = node.inputs[0]  # one length, repeated over an open batch
    if value is None:
        return True
    array = constant(value)
    return array is not None and bool((array == number).all())


def _activations(n: ir.Node, direction: int) -> Sequence[str]:
    defaults = _DEFAULTS[n.op_type]
    attribute = n.attributes.get("activations")
    names = list(defaults) if attribute is None else list(attribute.as_strings())
    first = direction * len(defaults)
    names = (names if attribute is not None else names * 2)[first : first + len(defaults)]
    for name in names:
        if name not in _SLOPES:
            raise UnsupportedOpError(
                f"activation {name} has no derivative here (those of {', '.join(_SLOPES)} have)"
            )
    return names


def _states(op: Ops, n: ir.Node) -> ir.Value:
    """Y; where the model does not ask for it, it does from now on.

    A second operator beside the first was the alternative: twice the cost, and onnxruntime 1.31
    fails to load such a pair ("Argument type mismatch when adding edge": it merges the two).
    """
    states = n.outputs[0]
    if not states.name:
        states.name = op.unused_name("states")
        states.type = _x(n).type
    return states


def _back(
    side: Direction, step: Step, dy: ir.Value | None, dh: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """The gradients at the gates' sums [T, N, ..] and at the initial hidden state [1, N, H]."""
    op = side.op
    of_output = None
    if dy is not None:
        of_output = _split(op, _part(op, side.node, dy, side.number, axis=1), side.steps)
    sums: list[ir.Value | None] = [None] * side.steps
    for time in reversed(side.order()):
        dh = dh if of_output is None else op.Add(of_output[time], dh)
        sums[time], dh = step(time, dh)
    return (op.Concat(*sums, axis=0) if len(sums) > 1 else _first(sums)), dh


def _first(values: Sequence[ir.Value | None]) -> ir.Value:
    assert values[0] is not None
    return values[0]


def _lstm(side: Direction, states: ir.Value, before: ir.Value, cell: list[ir.Value]) -> Step:
    """i, o, f = f(..), c~ = g(..), C = f C' + i c~, H = o h(C)."""
    op, steps = side.op, side.steps
    recurrence = side.of(2)
    sums = op.Gemm(side.x, side.of(1), *_biases(op, side.of(3)), transB=1)
    sums = op.Gemm(side.in_rows(before), recurrence, sums, transB=1)
    i, o, f, c = _split(op, side.in_time(sums), 4, axis=2)
    i, o, f = (side.activated(0, gate) for gate in (i, o, f))
    c = side.activated(1, c)
    initial = side.of(6)
    kept, added = _split(op, f, steps), _split(op, op.Mul(i, c), steps)
    state = None if initial is None else op.Unsqueeze(initial, op.ints(0))
    cells: list[ir.Value] = [added[0]] * steps
    for time in side.order():
        state = added[time] if state is None else op.Add(op.Mul(kept[time], state), added[time])
        cells[time] = state
    all_cells = op.Concat(*cells, axis=0) if steps > 1 else cells[0]
    out = side.activated(2, all_cells)
    cells_before = side.states_before(all_cells, initial)
    through_output = _split(op, op.Mul(o, side.slope(2, out)), steps)
    factors = op.Concat(
        op.Mul(c, side.slope(0, i)), op.Mul(out, side.slope(0, o)),
        op.Mul(cells_before, side.slope(0, f)), op.Mul(i, side.slope(1, c)), axis=2,
    )  # fmt: skip
    factor = _split(op, factors, steps)

    def step(time: int, dh: ir.Value) -> tuple[ir.Value, ir.Value]:
        dc = op.Add(cell[-1], op.Mul(dh, through_output[time]))
        da = op.Mul(op.Concat(dc, dh, dc, dc, axis=2), factor[time])
        cell.append(op.Mul(dc, kept[time]))
        return da, op.MatMul(da, recurrence)

    return step


def _gru(side: Direction, states: ir.Value, before: ir.Value, cell: list[ir.Value]) -> Step:
    """z, r = f(..), h~ = g(..), H = (1 - z) h~ + z H'."""
    op, steps, hidden = side.op, side.steps, side.hidden
    weight, recurrence, bias = side.of(1), side.of(2), side.of(3)
    rows = side.in_rows(before)
    of_w, of_r = _split(op, bias, 2) if bias is not None else (None, None)
    of_x = op.Gemm(side.x, weight, *([] if of_w is None else [of_w]), transB=1)
    to_gates, to_new = _cut(op, recurrence, 2 * hidden)
    biases = [[], []] if of_r is None else [[part] for part in _cut(op, of_r, 2 * hidden)]
    x_gates, x_new = (side.in_time(v) for v in _cut(op, of_x, 2 * hidden, axis=1))
    h_gates = side.in_time(op.Gemm(rows, to_gates, *biases[0], transB=1))
    z, r = _split(op, side.activated(0, op.Add(x_gates, h_gates)), 2, axis=2)
    after = int_attribute(side.node, "linear_before_reset", 0) != 0
    inner = before if after else op.Mul(r, before)
    product = side.in_time(op.Gemm(side.in_rows(inner), to_new, *biases[1], transB=1))
    new = side.activated(1, op.Add(x_new, op.Mul(r, product) if after else product))
    by_z = _split(op, op.Mul(op.Sub(before, new), side.slope(0, z)), steps)
    by_new = _split(op, op.Mul(op.Sub(1.0, z), side.slope(1, new)), steps)
    by_r = _split(op, op.Mul(product if after else before, side.slope(0, r)), steps)
    kept, reset = _split(op, z, steps), _split(op, r, steps)

    def step(time: int, dh: ir.Value) -> tuple[ir.Value, ir.Value]:
        dz, dn = op.Mul(dh, by_z[time]), op.Mul(dh, by_new[time])
        straight = op.Mul(dh, kept[time])
        if after:  # h~ = g(.. + r (H' R + b))
            dr = op.Mul(dn, by_r[time])
            back = op.MatMul(op.Concat(dz, dr, op.Mul(dn, reset[time]), axis=2), recurrence)
        else:  # h~ = g(.. + (r H') R + b)
            inside = op.MatMul(dn, to_new)
            dr = op.Mul(inside, by_r[time])
            straight = op.Add(straight, op.Mul(inside, reset[time]))
            back = op.MatMul(op.Concat(dz, dr, axis=2), to_gates)
        return op.Concat(dz, dr, dn, axis=2), op.Add(straight, back)

    return step


def _rnn(side: Direction, states: ir.Value, before: ir.Value, cell: list[ir.Value]) -> Step:
    """H = f(X W + H' R + b)."""
    op, recurrence = side.op, side.of(2)
    slopes = _split(op, side.slope(0, states), side.steps)

    def step(time: int, dh: ir.Value) -> tuple[ir.Value, ir.Value]:
        da = op.Mul(dh, slopes[time])
        return da, op.MatMul(da, recurrence)

    return step


def _biases(op: Ops, bias: ir.Value | None) -> list[ir.Value]:
    return [] if bias is None else [op.Add(*_split(op, bias, 2))]


def _given(n: ir.Node, position: int) -> ir.Value | None:
    return n.inputs[position] if position < len(n.inputs) else None


def _part(op: Ops, n: ir.Node, value: ir.Value, number: int, axis: int) -> ir.Value:
    """One direction's part, without the axis of directions."""
    if string_attribute(n, "direction", "forward") != "bidirectional":
        return op.Squeeze(value, op.ints(axis))
    return op.Gather(value, op.const(number), axis=axis)


def _end(op: Ops, grad: ir.Value | None, number: int, like: ir.Value) -> ir.Value:
    """The gradient at the last state [1, N, H]: this direction's part, zeros where none flows."""
    if grad is None:
        some = op.Slice(like, op.ints(0), op.ints(1), op.ints(0))
        return op.Expand(op.const(0.0, like.dtype), op.Shape(some))
    return op.Slice(grad, op.ints(number), op.ints(number + 1), op.ints(0))


def _split(op: Ops, value: ir.Value, parts: int, axis: int = 0) -> Sequence[ir.Value]:
    """Equal parts; along time they keep that axis, of size 1."""
    if parts == 1:
        return [value]
    attributes = {"axis": axis, "num_outputs": parts}
    return op.emit("Split", [value], attributes, outputs=parts)


def _cut(op: Ops, value: ir.Value | None, at: int, axis: int = 0) -> Sequence[ir.Value]:
    """What lies before position `at` of an axis, and what behind it."""
    end = op.ints(2**62)
    return [
        op.Slice(value, op.ints(0), op.ints(at), op.ints(axis)),
        op.Slice(value, op.ints(at), end, op.ints(axis)),
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
