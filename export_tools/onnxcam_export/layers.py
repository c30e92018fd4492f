"""Which tensor is explained: the candidates, the default, and lookup by anybody's name for it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxcam.contract import Layer
from onnxcam.errors import LayerError
from onnxcam_export.channel_axis import LAST_AXIS_NORMS, channel_axes, is_dense, is_weight
from onnxcam_export.framework_names import framework_names, modules_of, short_name
from onnxcam_export.gradient.ops import FLOATS
from onnxcam_export.gradient.shapes import constant, dims
from onnxcam_export.gradient.walk import path_between
from onnxcam_export.token_grids import Tokens, picks_grid_tokens, token_grids

LAST_CONVOLUTION = "last_conv"

# Operators that leave a layer's activation what it is, or only make it coarser.
_SAME_ACTIVATION = frozenset(
    """Identity Cast Dropout Transpose QuantizeLinear DequantizeLinear MaxPool
    AveragePool""".split()
)
_ALIAS = frozenset({"Identity", "Cast", "Dropout", "Transpose"})
_WITH_WEIGHTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})


@dataclass(frozen=True)
class Candidate:
    """A layer that can be explained.

    Attributes:
        value: its activation in the graph.
        channel_axis: the axis of the channels; axis 0 is the batch, the others are spatial.
        name: the framework's name, or None.
        note: what the user should know of the choice, or "".
        tokens: where the spatial axes are one sequence of tokens, how they lie on the picture.
    """

    value: ir.Value
    channel_axis: int
    name: str | None = None
    note: str = ""
    tokens: Tokens | None = None

    @property
    def layer(self) -> Layer:
        return Layer(str(self.value.name), self.name)

    @property
    def shape(self) -> list[int | str]:
        """[N, C, *spatial], whatever the model's own layout; open dimensions by their name."""
        assert self.value.shape is not None
        sizes = [d if isinstance(d, int) else str(d.value or "?") for d in self.value.shape]
        first = [sizes[i] for i in channels_first(len(sizes), self.channel_axis)]
        return first if self.tokens is None else [*first[:2], *self.tokens.grid]

    def exposed(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """An array of the tensor's own layout as [N, C, *spatial]; class tokens are dropped."""
        first = np.moveaxis(array, self.channel_axis, 1)
        if self.tokens is None:
            return first
        grid = first[:, :, self.tokens.prefix : self.tokens.end]
        return grid.reshape(*first.shape[:2], *self.tokens.grid)

    def embedded(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The inverse of :meth:`exposed`, with zeros at the class tokens."""
        if self.tokens is not None:
            flat = array.reshape(*array.shape[:2], -1)
            count = dims(self.value)[self.tokens.axis] or self.tokens.end
            behind = count - self.tokens.end
            array = np.pad(flat, ((0, 0), (0, 0), (self.tokens.prefix, behind)))
        return np.moveaxis(array, 1, self.channel_axis)


def channels_first(rank: int, channel_axis: int) -> list[int]:
    """The permutation that puts the channels behind the batch axis."""
    return [0, channel_axis, *[axis for axis in range(1, rank) if axis != channel_axis]]


class Layers:
    """The layers of one graph that lie before one score."""

    def __init__(self, graph: ir.Graph, score: ir.Value) -> None:
        self._nodes = list(graph)
        self._score = score
        inputs = [v for v in graph.inputs if not v.is_initializer()]
        self._picture = inputs[0] if inputs else None
        self._axes = channel_axes(self._nodes, self._picture)
        self._tokens = token_grids(self._nodes, self._axes, self._picture_rank())
        self._names = framework_names(self._nodes)
        self._leads_to_score = {
            value
            for start in inputs
            for node in path_between(self._nodes, start, score)
            for value in node.outputs
        }
        self._order = {v: i for i, node in enumerate(self._nodes) for v in node.outputs}

    @property
    def axes(self) -> dict[ir.Value, int]:
        """The channel axis of every tensor of which it is known."""
        return self._axes

    def candidates(self) -> list[Candidate]:
        """Every layer with spatial axes before the score, in the order of the graph."""
        values = [v for node in self._nodes for v in node.outputs if self._is_spatial(v)]
        return [self._candidate(v) for v in values if v in self._leads_to_score]

    def default(self) -> Candidate:
        """The last spatial activation before the spatial axes collapse.

        Pools behind it are stepped back over (the map before a pool is finer and says the same),
        and a class map, behind which no weights follow, to what its last weights read. Where a
        class token is read out, the tokens of the grid are felt up to the last attention only:
        the default is what that attention reads, the last block's first norm.

        Raises:
            LayerError: the network has no spatial activation.
        """
        candidates = self.candidates()
        # A single channel is an attention mask, or a class map: what it was made of says more.
        candidates = [c for c in candidates if c.shape[1] != 1] or candidates
        if not candidates:
            raise LayerError(
                "no activation with spatial axes leads to the score; name the layer yourself "
                "(`onnxcam inspect` lists the tensors)"
            )
        value, note = candidates[-1].value, ""
        felt = self._felt()
        if value not in felt:
            alive = [c for c in candidates if c.value in felt]
            norms = [c for c in alive if c.tokens is not None and _is_norm(c.value.producer())]
            if alive:
                value = (norms or alive)[-1].value
                note = "behind it only the class token leads to the score"
        path = path_between(self._nodes, value, self._score)
        if any(_mixes_activations(node) for node in path):
            value = self._before_projections(value)
        elif not any(_has_weights(n) for n in path) and (node := self._last_weighted_before(value)):
            value, note = node.inputs[0] or value, "the one after it is already the class map"
        behind = sum(_has_weights(node) for node in path)
        if not note and 2 * behind > sum(_has_weights(node) for node in self._nodes):
            note = (
                "most of the network lies behind it, without a layer whose grid the graph tells; "
                "name a layer"
            )
        return self._candidate(self._behind_pools(value), note)

    def last_convolution(self) -> Candidate:
        """The output of the last convolution of the graph.

        Raises:
            LayerError: there is none with spatial axes.
        """
        for candidate in reversed(self.candidates()):
            producer = candidate.value.producer()
            if producer is not None and producer.op_type == "Conv":
                return candidate
        raise LayerError("the network has no convolution with spatial axes before the score")

    def find(self, name: str | None, grid: tuple[int, ...] | None = None) -> Candidate:
        """Look a layer up by tensor name, node name, or the framework's name.

        Args:
            name: the name, `last_conv`, or None for the default.
            grid: height and width of the grid on which a layer's tokens lie, where the graph
                doesn't tell; the tokens beyond height * width stand in front.

        Raises:
            LayerError: unknown (with the nearest names), behind the score, or without spatial
                axes; or a grid for what is not one sequence of tokens.
        """
        if grid is not None and name in (None, LAST_CONVOLUTION):
            raise LayerError(
                f"grid {_by(grid)}: name the layer too whose tokens lie on it - "
                "`onnxcam inspect` lists the tensors"
            )
        if name is None:
            return self.default()
        if name == LAST_CONVOLUTION:
            return self.last_convolution()
        value, note = self._lookup(name)
        return self.of_value(value, name, note, grid=grid)

    def of_value(
        self,
        value: ir.Value,
        name: str,
        note: str = "",
        channel_axis: int | None = None,
        grid: tuple[int, ...] | None = None,
    ) -> Candidate:
        """The candidate that a tensor stands for: what the head reads of it.

        Frameworks hand out copies (Transpose, Cast, Identity) that lead nowhere; the tensor
        behind them is the one between the backbone and the head.
        """
        axis = channel_axis if channel_axis is not None else self._axes.get(value)
        while value not in self._leads_to_score:
            node = value.producer()
            if node is None or node.op_type not in _ALIAS or node.inputs[0] is None:
                raise LayerError(
                    f"layer '{name}' does not lead to the score '{self._score.name}': it comes "
                    "after it or on a branch beside it; `onnxcam inspect` lists the layers that do"
                )
            if node.op_type == "Transpose" and axis is not None:
                axis = [int(x) for x in node.attributes["perm"].as_ints()][axis]
            value = node.inputs[0]
        axis = self._axes.get(value, axis)
        if value is self._score:
            raise LayerError(f"layer '{name}' is the score itself; choose a layer before it")
        sizes = dims(value) if value.shape is not None else []
        tokens = self._tokens.get(value)
        if grid is not None:
            axis, tokens = _laid_on(grid, name, sizes, axis)
        if tokens is None and len(sizes) == 3 and self._picture_rank() > 3:
            raise LayerError(
                f"layer '{name}' is a sequence (shape {_shown(sizes)}) and the graph does not say "
                "how it lies on the picture; name the grid of its tokens (--grid 14x14, in Python "
                "grid=(14, 14)), or choose another layer - `onnxcam inspect` lists them"
            )
        if axis is None or len(sizes) < 3 or value.dtype not in FLOATS:
            raise LayerError(
                f"layer '{name}' has no spatial axes (shape {_shown(sizes)}); expected an "
                "activation [N, C, height, width] - `onnxcam inspect` lists those that have"
            )
        if all(size == 1 for i, size in enumerate(sizes) if i not in (0, axis)):
            raise LayerError(
                f"layer '{name}' has one pixel only (shape {_shown(sizes)}): there is nothing to "
                "show; choose a layer before the pooling"
            )
        return Candidate(value, axis, self._framework_name(value, name), note, tokens)

    def _framework_name(self, value: ir.Value, asked: str) -> str | None:
        return asked if asked != value.name else self._names.get(value)

    def _candidate(self, value: ir.Value, note: str = "") -> Candidate:
        name, tokens = self._names.get(value), self._tokens.get(value)
        return Candidate(value, self._axes[value], name, note, tokens)

    def _is_spatial(self, value: ir.Value) -> bool:
        if value not in self._axes or value.dtype not in FLOATS or value is self._score:
            return False
        sizes = [s for i, s in enumerate(dims(value)) if i not in (0, self._axes[value])]
        if all(size == 1 for size in sizes) or not self._is_per_picture(value):
            return False
        if len(sizes) == 1 and self._picture_rank() > 3:
            return value in self._tokens and max(self._tokens[value].grid) > 1
        if not self._parts_tokens_rightly(value):
            return False
        return self._picture_rank() in (0, len(sizes) + 2)

    def _parts_tokens_rightly(self, value: ir.Value) -> bool:
        """False where a Reshape parts a sequence of tokens otherwise than into its grid."""
        node = value.producer()
        x = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
        if x is None or x.shape is None or len(x.shape) != 3 or self._picture_rank() < 4:
            return True
        tokens = self._tokens.get(x)
        sizes = [s for i, s in enumerate(dims(value)) if i not in (0, self._axes[value])]
        return tokens is not None and tokens.prefix == 0 and list(tokens.grid) == sizes

    def _picture_rank(self) -> int:
        """The rank of the model's input, 0 where it is not known or is no batch of pictures."""
        shape = None if self._picture is None else self._picture.shape
        return 0 if shape is None or len(shape) < 3 else len(shape)

    def _is_per_picture(self, value: ir.Value) -> bool:
        """Whether axis 0 is the batch, as far as is known: windows of attention are no pictures."""
        if self._picture is None or not self._picture.shape or not value.shape:
            return True
        batch, own = self._picture.shape[0], value.shape[0]
        if isinstance(own, int) or isinstance(batch, int):
            return not isinstance(own, int) or not isinstance(batch, int) or own == batch
        return own.value == batch.value or not any(sign in str(own.value) for sign in "*/+")

    def _felt(self) -> set[ir.Value]:
        """The tensors that lead to the score: those of tokens, by more than the class tokens."""
        felt = {self._score}
        for node in reversed(self._nodes):
            for value in node.outputs:
                if value in self._leads_to_score and any(
                    self._feels(consumer, value, felt) for consumer in value.consumers()
                ):
                    felt.add(value)
        return felt

    def _feels(self, node: ir.Node, value: ir.Value, felt: set[ir.Value]) -> bool:
        tokens = self._tokens.get(value)
        if tokens is not None and picks_grid_tokens(node, tokens) is False:
            return False
        laid_out = node.op_type == "Reshape" and self._is_spatial(value)
        for output in node.outputs:
            # What becomes tokens without having been a grid holds the class tokens too.
            class_token_inside = output in self._tokens and tokens is None and not laid_out
            if output in felt or (class_token_inside and output in self._leads_to_score):
                return True
        return False

    def _before_projections(self, value: ir.Value) -> ir.Value:
        """What an attention reads: back over the weights that make queries, keys and values."""
        while (node := value.producer()) is not None:
            active = [v for v in node.inputs if v is not None and constant(v) is None]
            before = active[0] if len(active) == 1 else None
            if before is None or not self._is_spatial(before):
                break
            biased = before.producer()
            is_bias = node.op_type == "Add" and biased is not None and is_dense(biased)
            if not (is_dense(node) or is_bias or node.op_type in _ALIAS | {"Split", "Slice"}):
                break
            value = before
        return value

    def _behind_pools(self, value: ir.Value) -> ir.Value:
        while (node := value.producer()) is not None:
            before = node.inputs[0] if node.inputs else None
            # Without its class token, or laid out otherwise, a sequence says the same.
            known = before in self._tokens or (node.op_type == "Reshape" and value in self._tokens)
            same_tokens = known and node.op_type in ("Slice", "Gather", "Reshape")
            if node.op_type not in _SAME_ACTIVATION and not same_tokens:
                break
            if before is None or not self._is_spatial(before) or before not in self._leads_to_score:
                break
            value = before
        return value

    def _last_weighted_before(self, value: ir.Value) -> ir.Node | None:
        for node in reversed(self._nodes):
            if not _has_weights(node) or node.inputs[0] is None:
                continue
            if not self._is_spatial(node.inputs[0]) or node.inputs[0] not in self._leads_to_score:
                continue
            if value in node.outputs or path_between(self._nodes, node.outputs[0], value):
                return node
        return None

    def _lookup(self, name: str) -> tuple[ir.Value, str]:
        by_tensor = {str(v.name): v for v in self._order}
        if name in by_tensor:
            return by_tensor[name], ""
        by_node = {str(node.name): node.outputs[0] for node in self._nodes if node.name}
        if name in by_node:
            return by_node[name], ""
        for modules in modules_of(self._nodes):
            if name in modules:
                value, note = modules[name]
                return value, note
        known = [*by_tensor, *by_node, *(n for m in modules_of(self._nodes) for n in m)]
        raise LayerError(f"no layer '{name}'; {_suggest(name, known)}")


def _laid_on(
    grid: tuple[int, ...], name: str, sizes: Sequence[int | None], axis: int | None
) -> tuple[int, Tokens]:
    """Channel axis and layout of a sequence [N, T, C] or [N, C, T] whose grid the user names."""
    if len(sizes) != 3:
        raise LayerError(
            f"grid {_by(grid)}: layer '{name}' (shape {_shown(sizes)}) is no sequence of tokens "
            "[N, tokens, channels]; leave the grid out"
        )
    count = math.prod(grid)
    along = 1 if axis is None else 3 - axis
    length = sizes[along] if along in (1, 2) else None
    if length is None or length < count or min(grid) < 1:
        raise LayerError(
            f"grid {_by(grid)}: expected {length if length is not None else 'as many'} tokens or "
            f"fewer in layer '{name}' (shape {_shown(sizes)}), got {count}"
        )
    return 3 - along, Tokens(along, length - count, tuple(grid))


def _is_norm(node: ir.Node | None) -> bool:
    return node is not None and node.op_type in LAST_AXIS_NORMS


def _mixes_activations(node: ir.Node) -> bool:
    """Attention: a product of two tensors that both depend on the picture."""
    if node.op_type == "Attention":
        return True
    return node.op_type in ("MatMul", "Einsum") and not _has_weights(node)


def _suggest(name: str, known: Sequence[str]) -> str:
    shown = {short_name(n): None for n in difflib.get_close_matches(name, known, n=5, cutoff=0.5)}
    if shown:
        return f"did you mean {', '.join(repr(n) for n in shown)}?"
    return "`onnxcam inspect` lists the layers"


def _has_weights(node: ir.Node) -> bool:
    """Whether a matrix of the model takes part (a Gemm by a constant, a convolution)."""
    return node.op_type in _WITH_WEIGHTS and any(is_weight(v) for v in node.inputs[:2])


def _by(grid: Sequence[int]) -> str:
    return "x".join(map(str, grid))


def _shown(sizes: Sequence[int | None]) -> list[int | str]:
    return ["?" if size is None else size for size in sizes]
