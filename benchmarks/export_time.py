"""How long the export of a long ONNX file takes: seconds against the number of nodes.

    python benchmarks/export_time.py [--nodes 1250 2500 5000 10000]

A chain of convolutions, ReLUs and sums of two branches, explained at its first layer, so that
every node is differentiated; and the same file explained at its default layer, its last.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh

from onnxcam_export import from_onnx

CHANNELS = 4


def chain(count: int) -> onnx.ModelProto:
    """About `count` nodes: blocks of Conv, Relu, Conv, Relu and the sum with the block's input."""
    rng = np.random.default_rng(0)
    nodes, weights, x = [], [], "x"
    while len(nodes) < count - 3:
        start = x
        for _ in range(2):
            number = len(nodes)
            values = rng.normal(0, 0.1, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
            weights.append(onnx.numpy_helper.from_array(values, f"w{number}"))
            nodes.append(oh.make_node("Conv", [x, f"w{number}"], [f"c{number}"], pads=[1] * 4))
            nodes.append(oh.make_node("Relu", [f"c{number}"], [f"r{number}"]))
            x = f"r{number}"
        nodes.append(oh.make_node("Add", [x, start], [f"a{len(nodes)}"]))
        x = nodes[-1].output[0]
    weights.append(
        onnx.numpy_helper.from_array(rng.normal(size=(CHANNELS, 3)).astype(np.float32), "dense")
    )
    nodes.append(oh.make_node("GlobalAveragePool", [x], ["pooled"]))
    nodes.append(oh.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(oh.make_node("MatMul", ["flat", "dense"], ["scores"]))
    picture = oh.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", CHANNELS, 8, 8])
    scores = oh.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["n", 3])
    graph = oh.make_graph(nodes, "chain", [picture], [scores], weights)
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=10)


def seconds(path: Path, layer: str | None) -> float:
    start = time.perf_counter()
    from_onnx(path, layer, output=path.with_suffix(".cam.onnx"))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", nargs="+", type=int, default=[1250, 2500, 5000, 10000])
    args = parser.parse_args()
    print("| nodes | first layer s | ms a node | default layer s | ms a node |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.onnx"
        onnx.save(chain(50), path)
        seconds(path, None)  # imports
        for count in args.nodes:
            model = chain(count)
            onnx.save(model, path)
            nodes = len(model.graph.node)
            first, last = seconds(path, "r0"), seconds(path, None)
            print(
                f"| {nodes} | {first:.1f} | {1e3 * first / nodes:.2f} "
                f"| {last:.1f} | {1e3 * last / nodes:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
