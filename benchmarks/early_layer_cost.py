"""What explaining an early layer costs, relative to the part of the network that is differentiated.

    python benchmarks/early_layer_cost.py [--networks NAME ...]      # random weights; needs torch

The layer lies at one third of the candidates, at the next place where the graph can be cut in two.
Three sessions take turns: the plain model, the explaining one, and the plain model from the layer
on. The ratio is (explaining - plain) / (plain from the layer on), the median over the rounds.
"""

from __future__ import annotations

import argparse
import time

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


def measure(plain: onnx.ModelProto, rounds: int, threads: int) -> tuple[str, np.ndarray]:
    """The layer's name and milliseconds [3, rounds]: plain, explaining, head alone."""
    layer, head = cut(plain)
    sessions = [session(m, threads) for m in (plain, from_onnx(plain, layer), head)]
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
    times = np.zeros((3, rounds))
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
    print("| model | layer | plain ms | explaining ms | head ms | extra / head |")
    print("|---|---|---|---|---|---|")
    for name in args.networks:
        layer, times = measure(random_network(name), args.rounds, args.threads)
        plain, explaining, head = np.median(times, axis=1)
        ratio = np.median((times[1] - times[0]) / times[2])
        print(
            f"| {name} | {layer} | {plain:.1f} | {explaining:.1f} | {head:.1f} | {ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
