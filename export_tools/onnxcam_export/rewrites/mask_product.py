"""A gradient that a mask lets through or not is a product with 0 and 1.

The rules of Relu, Clip and their kind write ``Where(mask, dy, 0)``. onnxruntime runs Where as two
selections and a merge, element by element, and in version 1.32 with a branch, whose cost depends
on how regular the mask is. Greater and Where, or Greater, Cast and Mul, for 576x14x14 floats and a
random mask, one thread of an AMD Zen 3, microseconds:

    onnxruntime     1.30   1.31   1.32
    Where             72     80    480
    Cast and Mul      65     69     65

A product is the same number, but for 0 times infinity: it is written only where nothing between
the mask and the convolution or matrix product that the gradient comes from can make an infinite
number of finite ones, as the derivative of Sqrt does at a Relu's 0.

On an Intel with AVX512 and onnxruntime 1.31 the two stood the other way round (106 and 171 us for
192x28x28, two threads): 65 us lost there are the price of 400 won with the version of today.

Rejected: HardSigmoids with slopes of 2^127 at 0 and 2^21 below 6 as the masks of Relu and Relu6.
They are exact, 130 us against 124 for the 576x14x14 of a Relu6, and stay in onnxruntime's blocked
layout, which saves the reordering of y and dy: 57 of 154 us, 0.2 of what MobileNetV2 costs in
benchmarks/early_layer_cost.py. But the slopes are infinite in float16, to which runtimes bring a
graph on their own, and 0 times infinity would blank the map; slopes that float16 holds are exact
for y above 1e-9 only, and as slow as this. Sign (142 us for the factor alone), Shrink (559), Ceil
and Min (62) are slower than Greater and Cast (47).
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from onnxcam_export.gradient.ops import FLOATS, Ops
from onnxcam_export.gradient.shapes import constant
from onnxcam_export.target import Target

# Where the search for infinite numbers ends: sums of products, which any of them spoils anyway.
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Finite for finite inputs.
_FINITE = frozenset(
    {
        "Add", "AveragePool", "Cast", "Concat", "Expand", "Gather", "GatherND", "Max", "Min", "Mul",
        "Neg", "Pad", "ReduceMean", "ReduceSum", "Reshape", "ScatterElements", "ScatterND",
        "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze",
        "Where",
    }
)  # fmt: skip


def mask_product(op: Ops, target: Target, seed: ir.Value) -> None:
    """Replace ``Where(mask, dy, 0)`` by ``dy * Cast(mask)`` where dy is finite."""
    del target, seed
    emitted = set(op.nodes)
    finite: dict[ir.Value, bool] = {}
    factors: dict[ir.Value, ir.Value] = {}
    for node in list(op.nodes):
        if node.op_type != "Where" or not _is_zero(node.inputs[2]):
            continue
        mask, dy = node.inputs[:2]
        assert mask is not None
        assert dy is not None
        if dy.dtype in FLOATS and _is_finite(dy, emitted, finite):
            op.replace(node, partial(_product, op, mask, dy, factors))


def _is_zero(value: ir.Value | None) -> bool:
    array = constant(value)
    return array is not None and array.size == 1 and not array.any()


def _is_finite(value: ir.Value, emitted: set[ir.Node], known: dict[ir.Value, bool]) -> bool:
    """Whether an emitted value is finite as long as the model's own values are."""
    seen = {value}
    stack = [value]
    while stack:
        current = stack.pop()
        producer = current.producer()
        if producer is None or producer not in emitted or producer.op_type in _PRODUCTS:
            continue
        possible = producer.op_type in _FINITE or _is_mean(producer)
        if not possible or known.get(current) is False:
            known[value] = False
            return False
        floats = (v for v in producer.inputs if v is not None and v.dtype in FLOATS)
        unseen = {v for v in floats if not known.get(v)} - seen
        seen |= unseen
        stack += unseen
    known.update(dict.fromkeys(seen, True))
    return True


def _is_mean(node: ir.Node) -> bool:
    """A division by a number of pixels, counted in the graph."""
    if node.op_type != "Div" or node.inputs[1] is None:
        return False
    counted = node.inputs[1].producer()
    source = counted.inputs[0] if counted is not None and counted.op_type == "Cast" else None
    return source is not None and source.dtype not in FLOATS


def _product(op: Ops, mask: ir.Value, dy: ir.Value, factors: dict[ir.Value, ir.Value]) -> ir.Value:
    if mask not in factors:
        factors[mask] = op.Cast(mask, to=dy.dtype)
    return op.Mul(dy, factors[mask])
