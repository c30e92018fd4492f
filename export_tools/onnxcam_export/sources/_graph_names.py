"""Names of a graph's inputs and outputs.

The exporters of PyTorch and TensorFlow make up names of inner values (`conv2d`, `relu_1`) and
do not look whether an asked-for name of an output is one of them. So they are asked for names
that nobody uses, and the wanted ones are set afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx

INPUT = "onnxcam_input_{}"
OUTPUT = "onnxcam_output_{}"


def placeholders(pattern: str, names: Sequence[str]) -> list[str]:
    """Names to export under, one per wanted name."""
    return [pattern.format(index) for index in range(len(names))]


def activation_names(layers: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Names of the outputs that hold layers' activations: the layers' own where they are free."""
    names: list[str] = []
    for layer in layers:
        name = layer
        while name in (*taken, *names):
            name = f"{name}_activation"
        names.append(name)
    return names


def rename(model: onnx.ModelProto, wanted: Mapping[str, str]) -> None:
    """Rename values of the main graph, in place, wherever they are used.

    An inner value that bears a wanted name makes room with the suffix ``_inner``.
    """
    graph = model.graph
    names = dict(wanted)
    every = {value.name for value in (*graph.input, *graph.initializer)}
    every |= {name for node in graph.node for name in node.output}
    for name in every & (set(wanted.values()) - set(wanted)):
        room = f"{name}_inner"
        while room in every or room in names.values():
            room += "_"
        names[name] = room
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in _nodes(graph):
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def name_batch(model: onnx.ModelProto, name: str = "batch") -> None:
    """Name the open first axis of every input and output."""
    for value in (*model.graph.input, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        if axes and not axes[0].HasField("dim_value"):
            axes[0].dim_param = name


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of the graph and of the graphs inside it (the branches of If, the body of Loop)."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
