"""What explaining costs: the exported model's time over the plain model's, same run, interleaved.

    python benchmarks/explaining_cost.py                # random weights; needs torch
    python benchmarks/explaining_cost.py FILE.onnx ...  # your own plain ONNX files

Prints one row a model: median milliseconds of both, and the median of the pairwise ratios with
its quartiles. Both sessions take turns, because the speed of a shared machine drifts.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from onnxcam.cli.timing import interleaved
from onnxcam.methods import METHODS
from onnxcam_export import from_onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

NETWORKS = (
    "resnet18",
    "resnet50",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
    "swin_t",
    "vit_b_16",
    "vgg16",
)


def session(model: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def compare(
    plain: onnx.ModelProto, explaining: onnx.ModelProto, seconds: float, threads: int
) -> tuple[float, float, np.ndarray]:
    """Median milliseconds of the plain and of the explaining model, and the pairwise ratios."""
    sessions = [session(plain, threads), session(explaining, threads)]
    feeds = [pictures_for(each) for each in sessions]
    target = sessions[1].get_inputs()[-1]
    (pixels,) = feeds[1].values()
    feeds[1][target.name] = np.full([len(pixels), *target.shape[1:]], -1)
    plain_run, explaining_run = (
        partial(ran.run, None, feed) for ran, feed in zip(sessions, feeds, strict=True)
    )
    taken = interleaved({"plain": plain_run, "explaining": explaining_run}, seconds, least=20)
    before, after = 1e3 * taken["plain"], 1e3 * taken["explaining"]
    return float(np.median(before)), float(np.median(after)), after / before


def pictures_for(model: ort.InferenceSession) -> dict[str, np.ndarray]:
    """Random values for its first input; what the model leaves open is 1 picture of 224 pixels."""
    picture = model.get_inputs()[0]
    shape = [
        d if isinstance(d, int) else (1 if i == 0 else 224) for i, d in enumerate(picture.shape)
    ]
    random = np.random.default_rng(0)
    if picture.type == "tensor(uint8)":
        return {picture.name: random.integers(0, 256, shape, np.uint8)}
    kind = np.float16 if picture.type == "tensor(float16)" else np.float32
    return {picture.name: random.uniform(0, 1, shape).astype(kind)}


def random_network(name: str) -> onnx.ModelProto:
    """A torchvision network with random weights, as its dynamo exporter writes it."""
    import torch

    from helpers_torchvision import torchvision  # declares its operators beside a CPU torch
    from onnxcam_export.sources import pytorch

    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None)
    return pytorch.capture(module, torch.zeros(1, 3, 224, 224)).model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE.onnx")
    parser.add_argument("--seconds", type=float, default=10.0, help="per model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--emit", default="gradient", choices=("gradient", "weights", "heatmap"))
    parser.add_argument("--method", choices=METHODS, help="of --emit heatmap; default gradcam")
    parser.add_argument("--heatmap-size", choices=("map", "input"), help="of --emit heatmap")
    parser.add_argument(
        "--input", default="model", choices=("model", "uint8"),
        help="uint8: bytes, normalised in the graph (by ImageNet's mean and deviation)",
    )  # fmt: skip
    parser.add_argument("--targets", type=int, metavar="K", help="K targets an image")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    args = parser.parse_args()
    print(f"| model | plain ms | explaining ms | ratio (quartiles) | {args.threads} threads |")
    print("|---|---|---|---|---|")
    for name in args.files or args.networks:
        plain = onnx.load(name) if args.files else random_network(name)
        explaining = from_onnx(
            plain, emit=args.emit, method=args.method, heatmap_size=args.heatmap_size,
            input=args.input, preprocess="imagenet" if args.input == "uint8" else None,
            targets=args.targets,
        )  # fmt: skip
        before, after, ratios = compare(plain, explaining, args.seconds, args.threads)
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        print(
            f"| {Path(name).stem} | {before:.2f} | {after:.2f} | {middle:.3f} "
            f"({low:.3f} to {high:.3f}) | {len(ratios)} pairs |",
            flush=True,
        )


if __name__ == "__main__":
    main()
