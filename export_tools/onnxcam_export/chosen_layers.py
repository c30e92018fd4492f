"""The layers asked for: as the framework put them out, else looked up in the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxcam.errors import LayerError
from onnxcam_export.gradient.shapes import dims
from onnxcam_export.layers import Candidate, Layers
from onnxcam_export.sources import Captured, GradientOracle, LayerLike, Source, layer_names

Activations = Mapping[str, tuple[Captured, ir.Value]]


def take_activations(graph: ir.Graph, source: Source) -> Activations:
    """Take the captured layers' activations off the outputs; by the names they were asked by."""
    outputs = {value.name: value for value in graph.outputs}
    taken = {each.asked: (each, outputs[each.tensor]) for each in source.captured}
    for _, activation in taken.values():
        graph.outputs.remove(activation)
    return taken


def choose_layers(
    layers: Layers, asked: LayerLike, activations: Activations, grid: tuple[int, ...] | None
) -> list[tuple[Candidate, GradientOracle | None]]:
    """Each layer asked for, with the framework's oracle in the layout of the layer's tensor.

    Args:
        layers: the layers of the graph.
        asked: a name, several, or None for what was captured, or the default.
        activations: what was captured. Names that are not among them are looked up in the graph
            and have no oracle.
        grid: see :meth:`Layers.find`.

    Raises:
        LayerError: as :meth:`Layers.find`, or one tensor is asked for twice.
    """
    wanted: list[str | None] = [*layer_names(asked)] or [*activations] or [None]
    found: list[tuple[Candidate, GradientOracle | None]] = []
    for name in wanted:
        if name is not None and name in activations:
            found.append(_of_captured(layers, *activations[name], grid))
        else:
            found.append((layers.find(name, grid), None))
    for index, (candidate, _) in enumerate(found):
        for twin, (other, _) in zip(wanted, found[:index], strict=False):
            if candidate.value is other.value:
                raise LayerError(
                    f"layer '{wanted[index]}' is asked for twice: its tensor is that of layer "
                    f"'{twin}'; name every layer once"
                )
    return found


def _of_captured(
    layers: Layers, captured: Captured, activation: ir.Value, grid: tuple[int, ...] | None
) -> tuple[Candidate, GradientOracle | None]:
    axis = 1
    if captured.channels_last and activation.shape is not None:
        axis = len(activation.shape) - 1
    candidate = layers.of_value(activation, captured.name, "", axis, grid)
    candidate = replace(candidate, name=captured.name)
    if captured.oracle is None:
        return candidate, None
    return candidate, _laid_out(captured.oracle, _axes_between(candidate.value, activation))


def _axes_between(value: ir.Value, copy: ir.Value) -> list[int]:
    """Which axis of `value` each axis of `copy` is, a copy of it through Transposes and others."""
    axes = list(range(len(dims(value))))
    while copy is not value:
        node = copy.producer()
        assert node is not None and node.inputs[0] is not None  # Layers.of_value came that way
        if node.op_type == "Transpose":
            order = node.attributes["perm"].as_ints()
            axes = [int(order[axis]) for axis in axes]
        copy = node.inputs[0]
    return axes


def _laid_out(oracle: GradientOracle, axes: Sequence[int]) -> GradientOracle:
    """The oracle, its arrays' axes brought from those of a copy to those of the tensor itself."""
    back = np.argsort(axes)

    def laid_out(
        images: npt.NDArray[np.float32], targets: npt.NDArray[np.int64], score: str
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        activation, gradient = oracle(images, targets, score)
        return activation.transpose(back), gradient.transpose(back)

    return laid_out
