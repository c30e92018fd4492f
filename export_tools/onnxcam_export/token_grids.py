"""How the tokens of a transformer lie on the picture: their grid, read off the graph.

Tokens come from a grid: a Reshape lays an activation [N, C, h, w] out as a sequence of h*w
tokens. From there on the layout is carried along: class and register tokens are put in front by
Concat, cut off by Slice or Gather, everything that works row by row keeps the order. What comes
out of attention is a new sequence; it takes the layout of the latest one with as many tokens,
which is the one it is added to. Any other Reshape may change the order (Hiera sorts its tokens
by windows): nothing is known of what it makes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxcam_export.channel_axis import is_dense, works_on_rows
from onnxcam_export.gradient.shapes import constant, dims, int_attribute, ints_attribute


@dataclass(frozen=True)
class Tokens:
    """A sequence of tokens.

    Attributes:
        axis: the axis of the tokens.
        prefix: how many come before those of the grid (class and register tokens).
        grid: height and width (or as many axes as the picture has), in row-major order.
    """

    axis: int
    prefix: int
    grid: tuple[int, ...]

    @property
    def end(self) -> int:
        """The position behind the grid's last token."""
        return self.prefix + math.prod(self.grid)


def token_grids(
    nodes: Sequence[ir.Node], channel_axes: Mapping[ir.Value, int], picture_rank: int = 0
) -> dict[ir.Value, Tokens]:
    """The layout of every sequence of tokens of which it is known.

    A grid has as many axes as the picture (of rank `picture_rank` with batch and channels; 0:
    not known).
    """
    found: dict[ir.Value, Tokens] = {}
    latest: dict[int, Tokens] = {}  # by the number of tokens
    for node in nodes:
        for value in node.outputs:
            tokens = (
                _laid_out(node, channel_axes, picture_rank)
                or _carried(node, value, found)
                or _out_of_attention(node, value, channel_axes, latest)
            )
            if tokens is not None and value.shape is not None:
                count = dims(value)[tokens.axis]
                if count is not None and tokens.end <= count:
                    found[value] = latest[count] = tokens
    return found


def picks_grid_tokens(node: ir.Node, tokens: Tokens) -> bool | None:
    """Whether an operator that picks tokens takes one of the grid; None if it does not pick."""
    picked = _picked(node, tokens.axis)
    if picked is None:
        return None
    return any(tokens.prefix <= index < tokens.end for index in picked)


def _laid_out(
    node: ir.Node, channel_axes: Mapping[ir.Value, int], picture_rank: int
) -> Tokens | None:
    """[N, C, *grid] as [N, C, T], or [N, *grid, C] as [N, T, C]."""
    x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
    if node.op_type != "Reshape" or x is None or x not in channel_axes:
        return None
    if x.shape is None or y.shape is None or len(y.shape) != 3 or len(x.shape) < 4:
        return None
    if picture_rank > 3 and len(x.shape) != picture_rank:
        return None
    sizes, after = dims(x), dims(y)
    last = channel_axes[x] == len(sizes) - 1
    grid = [size for size in (sizes[1:-1] if last else sizes[2:]) if size is not None]
    channels = sizes[-1] if last else sizes[1]
    if channel_axes[x] not in (1, len(sizes) - 1) or len(grid) != len(sizes) - 2:
        return None
    if after[1:] != ([math.prod(grid), channels] if last else [channels, math.prod(grid)]):
        return None
    return Tokens(1 if last else 2, 0, tuple(grid))


def _carried(node: ir.Node, value: ir.Value, found: Mapping[ir.Value, Tokens]) -> Tokens | None:
    source = next((v for v in node.inputs if v is not None and v in found), None)
    if source is None or value.shape is None or source.shape is None:
        return None
    tokens = found[source]
    if len(value.shape) != len(source.shape):
        return None
    if node.op_type == "Transpose":
        perm = ints_attribute(node, "perm") or list(range(len(value.shape)))[::-1]
        return replace(tokens, axis=perm.index(tokens.axis))
    if (
        node.op_type == "Concat"
        and int_attribute(node, "axis", 0) % len(value.shape) == tokens.axis
    ):
        before = 0
        for other in node.inputs:
            if other is source:
                return replace(tokens, prefix=tokens.prefix + before)
            size = None if other is None or other.shape is None else dims(other)[tokens.axis]
            if size is None:
                return None
            before += size
    picked = _picked(node, tokens.axis, node.outputs.index(value))
    if picked is not None:
        whole = [*range(tokens.prefix, tokens.end)]
        if whole[0] not in picked:
            return None
        start = picked.index(whole[0])
        return replace(tokens, prefix=start) if picked[start:][: len(whole)] == whole else None
    if node.op_type == "Reshape":
        return tokens if dims(value)[1:] == dims(source)[1:] else None
    same_length = dims(value)[tokens.axis] == dims(source)[tokens.axis]
    return tokens if same_length and works_on_rows(node, tokens.axis) else None


def _out_of_attention(
    node: ir.Node,
    value: ir.Value,
    channel_axes: Mapping[ir.Value, int],
    latest: Mapping[int, Tokens],
) -> Tokens | None:
    """[N, T, heads, d] joined to [N, T, C], or the product of attention and values itself."""
    if value not in channel_axes or value.shape is None or len(value.shape) != 3:
        return None
    axis = 3 - channel_axes[value]  # of [N, T, C] or [N, C, T]
    count = dims(value)[axis] if axis in (1, 2) else None
    known = latest.get(count) if count is not None else None
    if known is None:
        return None
    if node.op_type == "Reshape":
        x = node.inputs[0]
        before = dims(x) if x is not None and x.shape is not None else []
        if len(before) < 4 or axis != 1 or before[1] != count:
            return None
    elif node.op_type not in ("MatMul", "Einsum") or is_dense(node):
        return None
    return replace(known, axis=axis)


def _picked(node: ir.Node, axis: int, output: int = 0) -> list[int] | None:
    """The positions along `axis` that an operator takes, None if it is no such operator."""
    x = node.inputs[0] if node.inputs else None
    if x is None or x.shape is None or len(x.shape) <= axis:
        return None
    length, rank = dims(x)[axis], len(x.shape)
    if length is None:
        return None
    if node.op_type == "Gather" and int_attribute(node, "axis", 0) % rank == axis:
        indices = constant(node.inputs[1])
        return None if indices is None else [int(i) % length for i in indices.reshape(-1)]
    if node.op_type == "Slice":
        given = [constant(v) for v in node.inputs[1:]]
        if any(array is None for array in given):
            return None
        lists = [[int(i) for i in array.reshape(-1)] for array in given if array is not None]
        axes = lists[2] if len(lists) > 2 else list(range(len(lists[0])))
        steps = lists[3] if len(lists) > 3 else [1] * len(axes)
        for start, end, along, step in zip(lists[0], lists[1], axes, steps, strict=True):
            if along % rank == axis and step > 0:
                return list(range(length))[start:end:step]
        return None
    if node.op_type == "Split" and int_attribute(node, "axis", 0) % rank == axis:
        sizes = [dims(v)[axis] if v.shape is not None else None for v in node.outputs]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            return None
        return list(range(length))[sum(known[:output]) : sum(known[: output + 1])]
    return None
