"""Explaining torchvision networks: onnxcam against PyTorch by hand and three PyTorch libraries.

    python benchmarks/against_torch.py                      # ResNet-50 and MobileNetV2
    python benchmarks/against_torch.py --networks resnet18 --batches 1 --seconds 5

Random weights, 224x224, the same number of threads for everybody, all by turns in one process:

- tensor in, maps out, for batches;
- ten classes of one picture (onnxcam's file emits pooled weights);
- end to end: a 640x480 picture in (decoded), overlay of that size out.

Before anything is timed each peer's maps are compared with onnxcam's, put through the peer's own
scaling: they must not differ by more than 0.01 anywhere (maps lie in 0 to 1), nor overlays in
OpenCV's colours by more than 3 levels; a peer that does is an error. `pip install
'onnxcam[bench]'` brings the libraries; those that are missing are left out, and said so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import torch
from against_records import Records, Road, compare, measure, show
from explaining_cost import session  # puts tests/ onto the path
from peers_torch import Maps, Peer, make_peers
from PIL import Image

from helpers_torchvision import torchvision
from onnxcam import Engine
from onnxcam_export import from_torch
from onnxcam_export.sources import pytorch

# A network's last activation, as PyTorch calls it
LAYERS = {
    "resnet18": "layer4",
    "resnet50": "layer4",
    "mobilenet_v2": "features.18",
    "densenet121": "features.norm5",
}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 224
PREPROCESS = {
    "size": [SIZE, SIZE],
    "scale": 1 / 255,
    "mean": list(MEAN),
    "std": list(DEVIATION),
    "resize": {"mode": "stretch", "filter": "bilinear"},
}
CLASSES = 10
TASKS = ["batches", "ten-classes", "end-to-end"]
LARGEST_DIFFERENCE = 0.01
LARGEST_PIXEL_DIFFERENCE = 3
OURS = "onnxcam"
PLAIN, PLAIN_TORCH = "onnxruntime, plain forward", "PyTorch, plain forward"
# Without it, on two cores of an AMD Zen 5, MobileNetV2 took onnxcam 3.7 to 8.9 ms and onnxruntime
# alone 2.3 to 7.5: whose turn came after PyTorch's had a core less.
PAUSE = 0.02


class Subject:
    """A network, explained by onnxcam and by every peer."""

    def __init__(self, name: str, threads: int) -> None:
        torch.manual_seed(0)
        self.name = name
        self.pause = PAUSE if threads > 1 else 0.0
        self.module = torchvision.models.get_model(name, weights=None)
        calibrate(self.module)
        example = torch.zeros(1, 3, SIZE, SIZE)
        layer = LAYERS[name]
        one = from_torch(self.module, example, layer, preprocess=PREPROCESS)
        # All that the peers compute of a gradient; whole, ten of them are 4 % of ResNet-50's time
        # and a fifth of MobileNetV2's.
        several = from_torch(self.module, example, layer, targets=CLASSES, emit="weights")
        plain = pytorch.capture(self.module, example).model
        self.engine = Engine(one.SerializeToString(), threads=threads)
        self.engine_of_several = Engine(several.SerializeToString(), threads=threads)
        self.plain: ort.InferenceSession = session(plain, threads)
        self.peers, self.skipped = make_peers(self.module, layer)

    def scores(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self.plain.run(None, {self.plain.get_inputs()[0].name: images})[0])

    def plain_roads(self, images: np.ndarray) -> dict[str, Road]:
        tensor = torch.from_numpy(images)

        def in_torch() -> torch.Tensor:
            with torch.inference_mode():
                return self.module(tensor)

        return {PLAIN: lambda: self.scores(images), PLAIN_TORCH: in_torch}


def calibrate(module: torch.nn.Module) -> None:
    """Statistics of the batch norms as of a trained network's.

    With those that they begin with, MobileNetV2's last activation is so small that the 1e-8 which
    torchcam adds to a map's maximum outweighs it.
    """
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 1.0
    with torch.no_grad():
        module.train()(torch.randn(4, 3, SIZE, SIZE))
    module.eval()


def check(name: str, peer: Peer, found: Maps, ours: Maps) -> dict[str, float]:
    """How far a peer's maps are from ours in its convention; an error if too far."""
    result = compare(found, peer.convention(ours))
    if not result["difference"] <= LARGEST_DIFFERENCE:
        raise AssertionError(f"{name}: maps differ by {result['difference']:.3g}; not timed")
    return result


def batches(subject: Subject, size: int, seconds: float) -> dict[str, Any]:
    """Tensors in, maps out."""
    images = np.random.default_rng(size).normal(size=(size, 3, SIZE, SIZE)).astype(np.float32)
    tensor, classes = torch.from_numpy(images), subject.scores(images).argmax(axis=1)
    out = subject.engine.maps(images, classes).copy()
    targets = classes.tolist()
    roads: dict[str, Road] = {OURS: lambda: subject.engine.maps(images, classes)}
    checked = {}
    for name, peer in subject.peers.items():
        checked[name] = check(name, peer, peer.explain(tensor, targets), out)
        roads[name] = lambda peer=peer: peer.explain(tensor, targets)
    record = measure(roads | subject.plain_roads(images), seconds, OURS, subject.pause)
    return record | {"checked": checked, "skipped": subject.skipped}


def ten_classes(subject: Subject, seconds: float) -> dict[str, Any]:
    """The ten best classes of one picture."""
    image = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
    tensor = torch.from_numpy(image)
    classes = np.argsort(-subject.scores(image))[:, :CLASSES]
    out = subject.engine_of_several.maps(image, classes)[0].copy()
    targets = classes[0].tolist()
    roads: dict[str, Road] = {OURS: lambda: subject.engine_of_several.maps(image, classes)}
    checked = {}
    for name, peer in subject.peers.items():
        for way, several in peer.several.items():
            title = f"{name}, {way}"
            checked[title] = check(title, peer, several(tensor, targets), out)
            roads[title] = lambda several=several: several(tensor, targets)
    record = measure(roads | subject.plain_roads(image), seconds, OURS, subject.pause)
    return record | {"checked": checked, "skipped": subject.skipped}


def photograph() -> np.ndarray:
    """Something like one, uint8 [480, 640, 3]: random colours, smooth."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC))


def prepared(pixels: np.ndarray) -> torch.Tensor:
    """A picture as torchvision's transforms make a tensor of it."""
    transforms = torchvision.transforms.functional
    resized = transforms.resize(Image.fromarray(pixels), [SIZE, SIZE])
    tensor = transforms.normalize(transforms.to_tensor(resized), MEAN, DEVIATION)
    return tensor[None]


def end_to_end(subject: Subject, seconds: float) -> dict[str, Any]:
    """A picture in, its overlay out."""
    pixels = photograph()
    engine = subject.engine
    target = engine.explain(pixels).target
    result = engine.explain(pixels, target)
    ours = result.overlay()
    roads: dict[str, Road] = {OURS: lambda: engine.explain(pixels, target).overlay()}
    checked = {}
    for name, peer in subject.peers.items():

        def road(peer: Peer = peer) -> np.ndarray:
            return peer.paint(peer.explain(prepared(pixels), [target])[0], pixels)

        checked[name] = check(
            name, peer, peer.explain(prepared(pixels), [target]), result.map[None]
        )
        painted = road()
        if peer.opencv_colors:
            levels = np.abs(painted.astype(int) - ours).max()
            if levels > LARGEST_PIXEL_DIFFERENCE:
                raise AssertionError(f"{name}: overlays differ by {levels} levels; not timed")
            checked[name]["levels"] = int(levels)
        assert painted.shape == ours.shape
        roads[name] = road
    tensor = prepared(pixels).numpy()
    record = measure(roads | subject.plain_roads(tensor), seconds, OURS, subject.pause)
    return record | {"checked": checked, "skipped": subject.skipped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--networks", nargs="+", default=["resnet50", "mobilenet_v2"], choices=LAYERS
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 16])
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--title", default="torch", help="what the records' keys begin with")
    parser.add_argument("--seconds", type=float, default=30.0, help="per measurement")
    parser.add_argument("--records", type=Path, help="JSON lines; what is there is not run again")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    records = Records(args.records)
    for network in args.networks:
        tasks = {}
        if "batches" in args.tasks:
            for size in args.batches:
                tasks[f"batch {size}"] = lambda s, size=size: batches(s, size, args.seconds)
        if "ten-classes" in args.tasks:
            tasks["ten classes"] = lambda s: ten_classes(s, args.seconds)
        if "end-to-end" in args.tasks:
            tasks["end to end"] = lambda s: end_to_end(s, args.seconds)
        named = {f"{args.title}/{network}/{name}": task for name, task in tasks.items()}
        missing = {key: task for key, task in named.items() if key not in records}
        if not missing:
            continue
        print(f"{network}: exporting ...", file=sys.stderr, flush=True)
        subject = Subject(network, args.threads)
        for key, task in missing.items():
            print(f"{key} ...", file=sys.stderr, flush=True)
            record = {"key": key, "threads": args.threads, **task(subject)}
            records.add(record)
            show(record)


if __name__ == "__main__":
    main()
