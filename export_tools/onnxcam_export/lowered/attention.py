"""onnxruntime's fused attention as products and a softmax, as its documentation defines it.

What onnxruntime's transformer optimizer makes of a ViT: Attention where query, key and value come
from one input, else MultiHeadAttention. For pictures nothing is masked and nothing is past.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from onnxcam.errors import ModelError
from onnxcam_export.gradient.ops import Ops
from onnxcam_export.gradient.shapes import dims, float_attribute, int_attribute, ints_attribute
from onnxcam_export.lowered.fused import MICROSOFT, input_at


def _attention(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    # input, weights, bias, mask_index, past, attention_bias, past_sequence_length
    _without(n, {3: "a mask", 4: "past states"}, ("unidirectional", "do_rotary"))
    weights = input_at(n, 1)
    assert weights is not None
    widths = ints_attribute(n, "qkv_hidden_sizes") or [_known(n, weights, 1) // 3] * 3
    product = op.MatMul(n.inputs[0], weights)
    bias = input_at(n, 2)
    product = product if bias is None else op.Add(product, bias)
    sizes = op.ints(*widths)
    query, key, value = op.emit("Split", [product, sizes], {"axis": 2}, outputs=3)
    heads = int_attribute(n, "num_heads", 1)
    parts = [_heads(op, part, heads) for part in (query, key, value)]
    return [_attended(op, n, parts, input_at(n, 5), widths[0] // heads, widths[2])]


def _multi_head_attention(op: Ops, n: ir.Node) -> Sequence[ir.Value | None]:
    # query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value, ...
    _without(n, {4: "a mask", 6: "past states", 7: "past states"}, ("unidirectional",))
    heads = int_attribute(n, "num_heads", 1)
    given = [input_at(n, position) for position in range(3)]
    query = given[0]
    if query is None or len(dims(query)) != 3 or None in given:
        raise _refused(n, "query, key and value packed into one tensor")
    # Key and value may come apart already, [N, heads, tokens, width]: then without a bias.
    widths = [_width(n, value, heads) for value in given if value is not None]
    bias = input_at(n, 3)
    biases: Sequence[ir.Value | None] = [None] * 3
    if bias is not None:
        biases = op.emit("Split", [bias, op.ints(*widths)], {"axis": 0}, outputs=3)
    parts = []
    for value, shift in zip(given, biases, strict=True):
        assert value is not None
        if len(dims(value)) == 4:
            parts.append(value)
        else:
            shifted = value if shift is None else op.Add(value, shift)
            parts.append(_heads(op, shifted, heads))
    return [_attended(op, n, parts, input_at(n, 5), widths[0] // heads, widths[2])]


def _heads(op: Ops, value: ir.Value, heads: int) -> ir.Value:
    """[N, tokens, heads * width] as [N, heads, tokens, width]."""
    return op.Transpose(op.Reshape(value, op.ints(0, 0, heads, -1)), perm=[0, 2, 1, 3])


def _attended(
    op: Ops,
    n: ir.Node,
    parts: Sequence[ir.Value],
    bias: ir.Value | None,
    head_width: int,
    width: int,
) -> ir.Value:
    """softmax(q k^T scale + bias) v, the heads beside each other again."""
    query, key, value = parts
    scale = float_attribute(n, "scale", 0.0) or 1 / math.sqrt(head_width)
    scores = op.Mul(op.MatMul(query, op.Transpose(key, perm=[0, 1, 3, 2])), scale)
    scores = scores if bias is None else op.Add(scores, bias)
    mixed = op.MatMul(op.Softmax(scores, axis=-1), value)
    return op.Reshape(op.Transpose(mixed, perm=[0, 2, 1, 3]), op.ints(0, 0, width))


def _without(n: ir.Node, inputs: dict[int, str], attributes: Sequence[str]) -> None:
    for position, name in inputs.items():
        if input_at(n, position) is not None:
            raise _refused(n, name)
    for name in attributes:
        if int_attribute(n, name, 0):
            raise _refused(n, name)
    if len(n.outputs) > 1 and any(value.name for value in n.outputs[1:]):
        raise _refused(n, "the states as further outputs")


def _width(n: ir.Node, value: ir.Value, heads: int) -> int:
    if len(dims(value)) == 4:
        return _known(n, value, 3) * heads
    return _known(n, value, 2)


def _known(n: ir.Node, value: ir.Value, axis: int) -> int:
    size = dims(value)[axis]
    if size is None:
        raise _refused(n, "a width that is not fixed")
    return size


def _refused(n: ir.Node, what: str) -> ModelError:
    return ModelError(
        f"{n.op_type} '{n.name}': {what}: not supported; export from the file before onnxruntime "
        "optimised it"
    )


TABLE = {
    (MICROSOFT, "Attention"): _attention,
    (MICROSOFT, "MultiHeadAttention"): _multi_head_attention,
}
