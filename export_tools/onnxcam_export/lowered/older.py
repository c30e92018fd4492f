"""What later opsets changed, written as earlier ones have it; the changes as onnx's changelog
lists them (Operators, Changelog).

A row is `(operator, the opset that changed it) -> function(op, node)`: the function rewrites the
node in place to its form before the change and returns None, or emits what takes its place and
returns a value for each output. What it emits may itself have to be rewritten for the opset that
is wanted. It raises NotExpressible, with the reason, where the earlier operators cannot say it.

Only changes of meaning need a row. Types, attributes and inputs that were added are compared with
the earlier schema by :mod:`onnxcam_export.opsets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import (
    constant,
    constant_ints,
    dims,
    float_attribute,
    int_attribute,
    ints_attribute,
    rank,
    string_attribute,
)
from onnxcam_export.lowered.fused import _fast_gelu, _gelu, attributes_of, input_at
from onnxcam_export.pad_before_pool import leads_to_pool

Results = Sequence[ir.Value | None] | None
Row = Callable[[Ops, ir.Node], Results]


class NotExpressible(Exception):
    """The reason why an earlier opset has nothing that computes the same."""


def _x(n: ir.Node) -> ir.Value:
    value = n.inputs[0]
    assert value is not None
    return value


def _axes_attribute(op: Ops, n: ir.Node) -> Results:
    """Reduce*: axes were an attribute, and leaving them out always meant all of them."""
    axes = constant_ints(n, 1)
    if int_attribute(n, "noop_with_empty_axes", 0) and not axes:
        return [_of_one_number(op, n.op_type, _x(n))]
    n.attributes.pop("noop_with_empty_axes", None)
    n.resize_inputs(1)
    if axes:
        n.attributes["axes"] = ir.AttrInt64s("axes", axes)
    return None


def _of_one_number(op: Ops, reduction: str, x: ir.Value) -> ir.Value:
    """What a reduction does to each number where it reduces over nothing, as onnxruntime does."""
    if reduction in ("ReduceL1", "ReduceL2"):
        return op.Abs(x)
    if reduction == "ReduceLogSum":
        return op.Log(x)
    return op.Mul(x, x) if reduction == "ReduceSumSquare" else op.Identity(x)


def _split(op: Ops, n: ir.Node) -> Results:
    """Without num_outputs: equal parts by themselves, others by their sizes.

    Where the size is not known the parts are taken to be equal, as they are in what this package
    emits; of others the runtime refuses a remainder, it does not compute something else.
    """
    given = n.attributes.pop("num_outputs", None)
    if given is None or input_at(n, 1) is not None:
        return None
    parts = given.as_int()
    x = _x(n)
    length = dims(x)[int_attribute(n, "axis", 0)] if x.shape is not None else None
    if length is not None and length % parts:
        size = -(-length // parts)
        n.resize_inputs(2)
        n.replace_input_with(1, op.ints(*[size] * (parts - 1), length - size * (parts - 1)))
    return None


def _pad_axes(op: Ops, n: ir.Node) -> Results:
    """Pads of every axis, those that were not named zero."""
    given = constant_ints(n, 3)
    if given is None:
        return None
    x = _x(n)
    size = rank(x)
    pads = constant_ints(n, 1) or []
    begins, ends = [0] * size, [0] * size
    for i, axis in enumerate(given):
        begins[axis], ends[axis] = pads[i], pads[i + len(given)]
    inputs = [x, op.ints(*begins, *ends), input_at(n, 2)]
    if not leads_to_pool(n.outputs[0]):
        return op.emit("Pad", inputs, attributes_of(n))
    # The axes keep onnxruntime from fusing it into the pool, wrongly (see pad_before_pool). A
    # Slice between the two does as well, which needs something to cut off: one row of zeros more.
    ends[-1] += 1
    inputs[1] = op.ints(*begins, *ends)
    wider = op.emit("Pad", inputs, attributes_of(n))[0]
    return [op.Slice(wider, op.ints(0), op.ints(-1), op.ints(size - 1))]


def _resize_axes(op: Ops, n: ir.Node) -> Results:
    """Scales or sizes of every axis, those that were not named as they are."""
    axes = ints_attribute(n, "axes")
    n.attributes.pop("axes", None)
    if axes is None:
        return None
    x = _x(n)
    shape = dims(x)
    axes = [axis % len(shape) for axis in axes]
    if input_at(n, 1) is not None:
        raise NotExpressible("a region of interest along named axes")
    if input_at(n, 2) is not None:
        ones = op.const(np.ones(1, np.float32))
        column = op.Unsqueeze(n.inputs[2], op.ints(1))
        each = [op.Squeeze(part, op.ints(1)) for part in _parts(op, column, len(axes))]
        n.replace_input_with(2, op.Concat(*_placed(each, axes, [ones] * len(shape)), axis=0))
        return None
    each = _parts(op, n.inputs[3], len(axes))
    own = op.Shape(x)
    all_own = [op.Gather(own, op.ints(axis), axis=0) for axis in range(len(shape))]
    n.replace_input_with(3, op.Concat(*_placed(each, axes, all_own), axis=0))
    return None


def _parts(op: Ops, vector: ir.Value | None, length: int) -> list[ir.Value]:
    return [op.Gather(vector, op.ints(i), axis=0) for i in range(length)]


def _placed(each: list[ir.Value], axes: list[int], rest: list[ir.Value]) -> list[ir.Value]:
    given = dict(zip(axes, each, strict=True))
    return [given.get(axis, other) for axis, other in enumerate(rest)]


def _layer_normalization(op: Ops, n: ir.Node) -> Results:
    """As exporters wrote it before, which is what onnxruntime fuses again.

    The mean and the deviation are of float32, as `stash_type` 1 says.
    """
    x, scale, bias = _x(n), n.inputs[1], input_at(n, 2)
    if int_attribute(n, "stash_type", 1) != 1:
        raise NotExpressible("another stash_type than 1")
    wide = x if x.dtype == ir.DataType.FLOAT else op.Cast(x, to=ir.DataType.FLOAT)
    size = rank(x)
    axes = op.ints(*range(int_attribute(n, "axis", -1) % size, size))
    mean = op.ReduceMean(wide, axes, keepdims=1)
    centred = op.Sub(wide, mean)
    variance = op.ReduceMean(op.Pow(centred, 2.0), axes, keepdims=1)
    deviation = op.Sqrt(op.Add(variance, float_attribute(n, "epsilon", 1e-5)))
    value = op.Div(centred, deviation)
    if wide is not x:
        value = op.Cast(value, to=x.dtype)
    value = op.Mul(value, scale)
    value = value if bias is None else op.Add(value, bias)
    inverse = op.Reciprocal(deviation) if len(n.outputs) > 2 and n.outputs[2].uses() else None
    return [value, mean, inverse][: len(n.outputs)]


def _group_normalization(op: Ops, n: ir.Node) -> Results:
    """Each group standardised by InstanceNormalization, then a scale and a bias a channel."""
    x, groups = _x(n), int_attribute(n, "num_groups", 1)
    dtype = x.dtype
    ones, zeros = (op.const(np.full(groups, fill), dtype) for fill in (1.0, 0.0))
    grouped = op.Reshape(x, op.ints(0, groups, -1))
    epsilon = float_attribute(n, "epsilon", 1e-5)
    value = op.InstanceNormalization(grouped, ones, zeros, epsilon=epsilon)
    value = op.Reshape(value, op.Shape(x))
    behind = op.ints(*range(1, rank(x) - 1))
    scale, bias = (op.Unsqueeze(n.inputs[i], behind) for i in (1, 2))
    return [op.Add(op.Mul(value, scale), bias)]


def _gelu_as_written_out(op: Ops, n: ir.Node) -> Results:
    tanh = string_attribute(n, "approximate", "none") == "tanh"
    return [(_fast_gelu if tanh else _gelu)(op, _x(n))]


def _no_zeros(op: Ops, n: ir.Node) -> Results:
    """allowzero, which torch always writes, says something of shapes with a 0 in them alone.

    A computed one has none but for tensors without elements, which nobody explains.
    """
    shape = constant(n.inputs[1])
    if int_attribute(n, "allowzero", 0) and shape is not None and not shape.all():
        raise NotExpressible("a shape with a zero that is meant")
    n.attributes.pop("allowzero", None)
    return None


def _part_of_shape(op: Ops, n: ir.Node) -> Results:
    start, end = n.attributes.get("start"), n.attributes.get("end")
    if start is None and end is None:
        return None
    first = op.ints(start.as_int() if start else 0)
    last = op.ints(end.as_int() if end else np.iinfo(np.int64).max)
    return [op.Slice(op.Shape(_x(n)), first, last)]


def _cast_like(op: Ops, n: ir.Node) -> Results:
    like = n.inputs[1]
    if like is None or like.dtype is None:
        raise NotExpressible("the type that is asked for is not known")
    return [op.Cast(_x(n), to=like.dtype)]


def _old_grid_modes(op: Ops, n: ir.Node) -> Results:
    if len(dims(_x(n))) != 4:
        raise NotExpressible("it samples other than pictures")
    mode = string_attribute(n, "mode", "linear")
    old = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    n.attributes["mode"] = ir.AttrString("mode", old)
    return None


def _regions_by_half_pixels(op: Ops, n: ir.Node) -> Results:
    """The first form had no half pixels, which later became the default."""
    if string_attribute(n, "coordinate_transformation_mode", "half_pixel") == "half_pixel":
        raise NotExpressible("coordinate_transformation_mode 'half_pixel'")
    n.attributes.pop("coordinate_transformation_mode")
    return None


def _quantized_dtype(op: Ops, n: ir.Node) -> Results:
    """The type of the result was that of the zero point."""
    given = n.attributes.pop("output_dtype", None)
    if given is not None and given.as_int() and input_at(n, 2) is None:
        scale = n.inputs[1]
        assert scale is not None
        zeros = np.zeros([size or 1 for size in dims(scale)])
        n.resize_inputs(3)
        n.replace_input_with(2, op.const(zeros, ir.DataType(given.as_int())))
    return None


def _undilated(op: Ops, n: ir.Node) -> Results:
    if set(ints_attribute(n, "dilations") or [1]) != {1}:
        raise NotExpressible("dilations")
    n.attributes.pop("dilations", None)
    return None


def _without(attribute: str, *values: str) -> Row:
    """A row for values that an attribute did not have."""

    def check(op: Ops, n: ir.Node) -> Results:
        found = string_attribute(n, attribute, "")
        if found in values:
            raise NotExpressible(f"{attribute} '{found}'")
        return None

    return check


def _no_row(reason: str) -> Row:
    def refuse(op: Ops, n: ir.Node) -> Results:
        raise NotExpressible(reason)

    return refuse


_REDUCTIONS = "L1 L2 LogSum LogSumExp Max Mean Min Prod SumSquare".split()

ROWS: Mapping[tuple[str, int], Row] = {
    ("HardSwish", 14): lambda op, n: [op.Mul(_x(n), op.HardSigmoid(_x(n), alpha=1 / 6, beta=0.5))],
    ("Reshape", 14): _no_zeros,
    ("CastLike", 15): _cast_like,
    ("Shape", 15): _part_of_shape,
    ("RoiAlign", 16): _regions_by_half_pixels,
    ("LayerNormalization", 17): _layer_normalization,
    **{(f"Reduce{name}", 18): _axes_attribute for name in _REDUCTIONS},
    ("LpPool", 18): _undilated,
    ("Mish", 18): lambda op, n: [op.Mul(_x(n), op.Tanh(op.Softplus(_x(n))))],
    ("Pad", 18): _pad_axes,
    ("Resize", 18): _resize_axes,
    ("ScatterElements", 18): _without("reduction", "max", "min"),
    ("ScatterND", 18): _without("reduction", "max", "min"),
    ("Split", 18): _split,
    ("AveragePool", 19): _undilated,
    ("Pad", 19): _without("mode", "wrap"),
    ("Resize", 19): _without("coordinate_transformation_mode", "half_pixel_symmetric"),
    ("DFT", 20): _no_row("its axis was an attribute, with another default"),
    ("Gelu", 20): _gelu_as_written_out,
    ("GridSample", 20): _old_grid_modes,
    ("GroupNormalization", 21): _group_normalization,
    ("QuantizeLinear", 21): _quantized_dtype,
    ("Swish", 24): lambda op, n: [
        op.Mul(_x(n), op.Sigmoid(op.Mul(_x(n), float_attribute(n, "alpha", 1.0))))
    ],
}


def _new_grid_modes(op: Ops, n: ir.Node) -> Results:
    old = string_attribute(n, "mode", "bilinear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(old, old)
    n.attributes["mode"] = ir.AttrString("mode", mode)
    return None


# The same changes the other way: all that means something else in the later opset.
RAISED: Mapping[tuple[str, int], Row] = {
    ("GridSample", 20): _new_grid_modes,
    ("DFT", 20): _no_row("its axis became an input, with another default"),
    ("GroupNormalization", 21): _no_row("its scales became one a channel"),
}
