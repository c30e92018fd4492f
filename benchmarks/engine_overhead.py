"""What the engine itself costs: its time over onnxruntime's for the same model, interleaved.

    python benchmarks/engine_overhead.py                 # ResNet-50 and MobileNetV2, random weights
    python benchmarks/engine_overhead.py --networks resnet18 --threads 2 --seconds 20
    python benchmarks/engine_overhead.py --kernels       # the reduction alone, against NumPy

Four roads take turns: `session.run` of the plain model and of the explaining one (the model's own
outputs and the explanation's), `Engine.maps` (tensor in, finished maps out, into `out`), and
`Stream` (a 640x480 frame in, resized and normalised; overlay out). The first three compute the same
network, and before anything is timed the maps are compared with NumPy's of the same gradient.
Ratios are medians over rounds, with their quartiles; below 1.00 is noise. `--cpu-time` counts the
processor time of the calling thread, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import onnxruntime as ort
from explaining_cost import random_network, session

from onnxcam import Engine, Stream, compiled
from onnxcam.cli.timing import interleaved
from onnxcam.methods import METHODS
from onnxcam_export import from_onnx

Road = Callable[[], object]
LEAST = 20  # rounds
SHAPES = [(2048, 7), (512, 14), (1280, 7), (64, 56)]


def quartiles(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def roads_of(plain: onnx.ModelProto, threads: int) -> dict[str, Road]:
    """The four roads of a network, checked against each other."""
    model = from_onnx(plain, preprocess="imagenet")
    engine = Engine(model.SerializeToString(), threads=threads)
    # Two sessions of one file differ by 2 %, for where their memory lies: so the engine's own.
    before, after = session(plain, threads), engine.model.session._session
    name = engine.contract.picture.name
    random = np.random.default_rng(0)
    tensor = random.normal(size=(1, 3, 224, 224)).astype(np.float32)
    frame = random.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    targets = np.array([-1])
    feeds = {name: tensor, "cam_target": targets}
    out = engine.maps(tensor, targets)
    activation, gradient = after.run(["cam_activation", "cam_gradient"], feeds)
    expected = np.maximum(np.einsum("nchw,nc->nhw", activation, gradient.mean(axis=(2, 3))), 0)
    np.testing.assert_allclose(out, expected / expected.max(), atol=1e-4)
    stream = Stream(engine)
    return {
        "plain": lambda: before.run(None, {name: tensor}),
        "explaining": lambda: after.run(None, feeds),
        "maps": lambda: engine.maps(tensor, targets, out=out),
        "stream": lambda: stream(frame),
    }


def engine_table(networks: list[str], threads: int, seconds: float, cpu: bool) -> None:
    clock = time.thread_time if cpu else time.perf_counter
    kind = "processor time" if cpu else "time"
    print(f"{kind}, onnxruntime {ort.__version__}, {threads} threads, {compiled.origin()}\n")
    print(
        "| model | plain ms | explaining ms | maps / explaining | maps / plain "
        "| stream / explaining | stream / plain |\n|---|---|---|---|---|---|---|"
    )
    for network in networks:
        times = interleaved(roads_of(random_network(network), threads), seconds, LEAST, clock)
        row = [network] + [f"{1e3 * np.median(times[x]):.2f}" for x in ("plain", "explaining")]
        for road in ("maps", "stream"):
            row += [quartiles(times[road] / times[by]) for by in ("explaining", "plain")]
        print(f"| {' | '.join(row)} |", flush=True)


def in_numpy(activation: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Grad-CAM as it is usually written."""
    raw = np.maximum(np.tensordot(gradient.mean(axis=1), activation, 1), 0)
    return np.asarray(raw / raw.max())


def kernel_table(seconds: float) -> None:
    names = list(METHODS)
    print(f"microseconds, kernels from {compiled.origin()}: minimum / median\n")
    print(f"| activation | {' | '.join(names)} | Grad-CAM in NumPy |")
    print("|---" * (len(names) + 2) + "|")
    random = np.random.default_rng(0)
    for channels, side in SHAPES:
        shape = (channels, side * side)
        activation = np.maximum(random.normal(size=shape), 0).astype(np.float32)
        gradient = random.normal(size=shape).astype(np.float32)
        raw, finished = np.empty((2, 1, 1, side * side), np.float32)
        summary = np.empty((1, 1, 4))
        arguments = (activation[None], gradient[None, None], raw, finished, summary)
        roads: dict[str, Road] = {name: partial(METHODS[name].load(), *arguments) for name in names}
        roads["numpy"] = partial(in_numpy, activation, gradient)
        roads["gradcam"]()
        np.testing.assert_allclose(finished[0, 0], in_numpy(activation, gradient), atol=1e-4)
        times = interleaved(roads, seconds, LEAST)
        cells = [f"{1e6 * t.min():.1f} / {1e6 * np.median(t):.1f}" for t in times.values()]
        print(f"| {channels}x{side}x{side} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet50", "mobilenet_v2"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="per model")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="of this thread, for a busy machine; says nothing of several threads",
    )
    parser.add_argument("--kernels", action="store_true", help="only the reduction kernels")
    args = parser.parse_args()
    if args.kernels:
        kernel_table(args.seconds / len(SHAPES))
    else:
        engine_table(args.networks, args.threads, args.seconds, args.cpu_time)


if __name__ == "__main__":
    main()
