"""What explaining an early layer costs, relative to the part of the network that is differentiated.

    python benchmarks/early_layer_cost.py [--networks NAME ...]      # random weights; needs torch

The layer lies at one third of the candidates, at the next place where the graph can be cut in two.
Five sessions take turns: the plain model, the explaining one, the plain model from the layer on,
and two that show what is unavoidable: the explaining model without the derivatives of its
activation functions (`linear`: wrong numbers, but all of the convolutions' and sums' work), and one
elementwise product of the shape of each of them (`passes`: the least that an activation's
derivative can cost, two tensors read and one written).

The ratios are (explaining - plain) / (plain from the layer on), and the floor's
(linear - plain + passes) / (plain from the layer on); medians over the rounds.

What MobileNetV2 costs, the sum of the nodes' best times from onnxruntime's profiler, milliseconds
(onnxruntime 1.32, one thread of an AMD Zen 3; the head's forward pass takes 5.15, of which
convolutions 4.8):

    convolutions of the way back               4.3     the floor: 0.98 of the head, with sums
    masks: Greater, Less, And, Cast            1.1     Where took 4.3 more, before mask_product
    masks: Mul                                 0.5
    from the blocked layout and into it        1.3     it knows no comparisons, no Cast
    two depthwise adjoints of stride 2         0.3     0.54 as ConvTranspose

That is 1.5 of the head, and was 2.3; a layout without the comparisons would make it 1.3, at a
price that rewrites/mask_product.py names.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import onnx
import onnx.utils
from explaining_cost import random_network, session

from onnxcam_export import from_onnx
from onnxcam_export.layers import Layers
from onnxcam_export.loading import prepare
from onnxcam_export.score import find_score

NETWORKS = ("resnet18", "resnet50", "densenet121", "mobilenet_v2", "efficientnet_b0", "vgg16")


def cut(plain: onnx.ModelProto) -> tuple[str, onnx.ModelProto]:
    """A layer at one third of the depth, and the model from there on."""
    graph = prepare(plain).graph
    candidates = Layers(graph, find_score(graph, "logit").value).candidates()
    inferred = onnx.shape_inference.infer_shapes(plain)
    for candidate in candidates[len(candidates) // 3 :]:
        name = str(candidate.value.name)
        outputs = [value.name for value in plain.graph.output]
        head = onnx.utils.Extractor(inferred).extract_model([name], outputs)
        known = {name, *(t.name for t in head.graph.initializer)}
        for node in head.graph.node:
            if not set(filter(None, node.input)) <= known:
                break
            known.update(node.output)
        else:
            if head.graph.node:
                return name, head
    raise SystemExit("no layer cuts the graph in two")


def slopes(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, str]]:
    """The emitted nodes that multiply by an activation's slope, and the gradient they take.

    Mul(gradient, Cast(mask)) of ReLU and its kind, and Mul(gradient, s + y (1 - s)) of SiLU.
    """
    producers = {name: node for node in model.graph.node for name in node.output}

    def made_by(name: str, op_type: str) -> onnx.NodeProto | None:
        node = producers.get(name)
        return node if node is not None and node.op_type == op_type else None

    for node in model.graph.node:
        if not node.name.startswith("cam/") or node.op_type != "Mul":
            continue
        for gradient, slope in (node.input, reversed(node.input)):
            added, mask = made_by(slope, "Add"), made_by(slope, "Cast")
            of_silu = added is not None and any(made_by(x, "Sigmoid") for x in added.input)
            of_relu = mask is not None and any(
                made_by(mask.input[0], comparison) for comparison in ("And", "Greater")
            )
            if of_silu or of_relu:
                yield node, gradient


def without(model: onnx.ModelProto, removed: list[tuple[onnx.NodeProto, str]]) -> onnx.ModelProto:
    """The model without these nodes, and without what only they needed."""
    instead = {node.output[0]: gradient for node, gradient in removed}

    def resolved(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    needed = {output.name for output in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if node.output[0] in instead or not needed.intersection(node.output):
            continue
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:]
        copy.input.extend(resolved(name) for name in node.input)
        needed.update(copy.input)
        kept.append(copy)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend(reversed(kept))
    return result


def passes(shapes: list[list[int]]) -> onnx.ModelProto:
    """A product of two tensors of each shape."""
    inputs, outputs, nodes = {}, [], []
    for number, shape in enumerate(shapes):
        names = [f"{side}_{'x'.join(map(str, shape))}" for side in "ab"]
        for name in names:
            inputs[name] = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        nodes.append(onnx.helper.make_node("Mul", names, [f"y{number}"]))
        outputs.append(
            onnx.helper.make_tensor_value_info(f"y{number}", onnx.TensorProto.FLOAT, shape)
        )
    graph = onnx.helper.make_graph(nodes, "passes", list(inputs.values()), outputs)
    opsets = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def shapes_by_name(model: onnx.ModelProto) -> dict[str, list[int]]:
    """The shapes that can be told, for a batch of one."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return {
        value.name: [side.dim_value or 1 for side in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
    }


def measure(plain: onnx.ModelProto, rounds: int, threads: int) -> tuple[str, np.ndarray]:
    """The layer's name and milliseconds [5, rounds]: plain, explaining, head, linear, passes."""
    layer, head = cut(plain)
    explaining = from_onnx(plain, layer)
    removed = list(slopes(explaining))
    shapes = shapes_by_name(explaining)
    sides = [shape for node, _ in removed if len(shape := shapes.get(node.output[0], [])) == 4]
    models = (plain, explaining, head, without(explaining, removed), passes(sides))
    sessions = [session(model, threads) for model in models]
    rng = np.random.default_rng(0)
    feeds = []
    for ran in sessions:
        feed = {}
        for value in ran.get_inputs():
            shape = [side if isinstance(side, int) else 1 for side in value.shape]
            if value.type == "tensor(int64)":
                feed[value.name] = np.full(shape, -1)
            else:
                feed[value.name] = rng.uniform(0, 1, shape).astype(np.float32)
        feeds.append(feed)
    times = np.zeros((len(sessions), rounds))
    for number in range(-3, rounds):
        for row, (ran, feed) in enumerate(zip(sessions, feeds, strict=True)):
            start = time.perf_counter()
            ran.run(None, feed)
            times[row, max(number, 0)] = (time.perf_counter() - start) * 1e3
    return layer, times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    print("| model | layer | plain ms | explaining ms | head ms | extra / head | floor / head |")
    print("|---|---|---|---|---|---|---|")
    for name in args.networks:
        layer, times = measure(random_network(name), args.rounds, args.threads)
        plain, explaining, head, *_ = np.median(times, axis=1)
        ratio = np.median((times[1] - times[0]) / times[2])
        floor = np.median((times[3] - times[0] + times[4]) / times[2])
        print(
            f"| {name} | {layer} | {plain:.1f} | {explaining:.1f} | {head:.1f} | {ratio:.2f} "
            f"| {floor:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
