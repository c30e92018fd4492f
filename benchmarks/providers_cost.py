"""What explaining costs on an execution provider, and whether its maps are those of the CPU.

    python benchmarks/providers_cost.py --providers cuda --emit heatmap
    python benchmarks/providers_cost.py --providers openvino --python ENVIRONMENT/bin/python

Networks of torchvision with random weights, 224x224, or plain files (`--networks FILE.onnx`). They
are exported here (with torch) and run by `--python`: providers come in onnxruntimes of their own,
which replace each other. That environment needs numpy, Pillow and that onnxruntime, nothing of this
project. By turns in one process, through bound memory:

- the plain and the explaining model on the provider (their ratio is what explaining costs);
- the engine, array in and map out, on the provider and on the CPU;
- pytorch-grad-cam on CUDA, where PyTorch has it and the library is installed.

Before anything is timed the provider's maps are compared with the CPU's, of the CPU's classes:
nowhere further apart than 1e-3, or with `--reduced` (bf16, fp16) a correlation of at least 0.99,
which only files have to reach, since they may be trained: fifty layers of random weights magnify
every rounding, in PyTorch's own bf16 as well. `--providers` takes options as everywhere,
`openvino:device_type=CPU`, `cuda:use_tf32=0`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
SIZE = 224
LARGEST_DIFFERENCE, LEAST_CORRELATION = 1e-3, 0.99
PLAIN, EXPLAINING, MAPS = "plain", "explaining", "onnxcam, array in, map out"
CPU_PLAIN, CPU_MAPS = "CPU, plain", "CPU, array in, map out"
PEER = "pytorch-grad-cam on CUDA"


def export(network: str, folder: Path, emit: str) -> None:
    """Plain and explaining file of a network; of one with random weights the weights, too."""
    import onnx

    from onnxcam_export import from_onnx

    plain = onnx.load(network) if is_file(network) else random_network(network, folder)
    onnx.save(plain, folder / "plain.onnx")
    from_onnx(plain, emit=emit, output=folder / "cam.onnx")


def is_file(network: str) -> bool:
    return network.endswith(".onnx")


def random_network(network: str, folder: Path) -> Any:
    import torch
    from against_torch import calibrate

    from helpers_torchvision import torchvision
    from onnxcam_export.sources import pytorch

    torch.manual_seed(0)
    module = torchvision.models.get_model(network, weights=None)
    calibrate(module)
    torch.save(module.state_dict(), folder / "weights.pt")
    return pytorch.capture(module, torch.zeros(1, 3, SIZE, SIZE)).model


def measure_there(network: str, folder: Path, batch: int, args: Any) -> dict[str, Any]:
    """Times and comparisons of one batch size, in the provider's environment."""
    import numpy as np
    from against_records import compare, measure

    from onnxcam import Engine
    from onnxcam.binding import Binding
    from onnxcam.contract import TARGET
    from onnxcam.providers import parse_providers
    from onnxcam.session import Session

    providers = parse_providers(args.providers)
    engine = Engine(folder / "cam.onnx", providers=providers)
    cpu = Engine(folder / "cam.onnx", threads=args.threads)
    plain = Session(folder / "plain.onnx", providers)
    cpu_plain = Session(folder / "plain.onnx", threads=args.threads)
    model = engine.model
    shape = [batch, *(side or SIZE for side in model.picture_input.shape[1:])]
    images = np.random.default_rng(batch).normal(size=shape).astype(np.float32)
    feeds = {model.contract.picture.name: images}

    def bound(session: Session, feeds: dict[str, Any], names: list[str]) -> Any:
        binding = Binding(session)
        return lambda: binding.run(feeds, names)

    # The CPU's classes for both: where scores are near ties, rounding alone chooses another one.
    scored = model.contract.output.name
    scores = cpu_plain.run(feeds, [scored])[scored].reshape(batch, -1)
    classes = scores.argmax(axis=1)
    targets = {TARGET: classes}
    names = [*model.own_outputs, *model.cam_outputs(0)]
    roads = {
        PLAIN: bound(plain, feeds, list(plain.outputs)),
        EXPLAINING: bound(model.session, feeds | targets, names),
        MAPS: lambda: engine.maps(images, classes),
        CPU_PLAIN: bound(cpu_plain, feeds, list(plain.outputs)),
        CPU_MAPS: lambda: cpu.maps(images, classes),
    }
    expected = cpu.maps(images, classes).copy()
    checked = {MAPS: compare_each(engine.maps(images, classes), expected, compare)}
    check(checked[MAPS], args.reduced, is_file(network))
    skipped = {}
    try:
        roads[PEER] = pytorch_on_cuda(network, folder, images)
    except (ImportError, RuntimeError) as error:
        skipped[PEER] = str(error)
    record = measure(roads, args.seconds, PLAIN)
    document = record | {"checked": checked, "skipped": skipped}
    return document | {"placement": f"{', '.join(engine.providers)}; {engine.placement}"}


def compare_each(found: Any, expected: Any, compare: Any) -> dict[str, float]:
    """The worst of a batch of maps."""
    each = [compare(one, other) for one, other in zip(found, expected, strict=True)]
    return {
        "difference": max(one["difference"] for one in each),
        "correlation": min(one["correlation"] for one in each),
    }


def check(checked: dict[str, float], is_reduced: bool, is_trained: bool) -> None:
    if is_reduced and is_trained and not checked["correlation"] >= LEAST_CORRELATION:
        raise AssertionError(f"correlation with the CPU's map: {checked['correlation']:.4f}")
    if not is_reduced and not checked["difference"] <= LARGEST_DIFFERENCE:
        raise AssertionError(f"map differs from the CPU's by {checked['difference']:.2g}")


def pytorch_on_cuda(network: str, folder: Path, images: Any) -> Any:
    """pytorch-grad-cam of the same network; its maps come back to the host, as ours do.

    Raises:
        ImportError: a library is missing.
        RuntimeError: PyTorch has no CUDA, or the network is a file.
    """
    if is_file(network):
        raise RuntimeError("the network is a file")
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch has no CUDA here")
    import torchvision
    from against_torch import LAYERS
    from pytorch_grad_cam import GradCAM

    module = torchvision.models.get_model(network, weights=None)
    module.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    module = module.eval().cuda()
    explain = GradCAM(module, [module.get_submodule(LAYERS[network])])
    return lambda: explain(torch.from_numpy(images).cuda())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--providers", required=True, metavar="NAME[,NAME]")
    parser.add_argument("--python", default=sys.executable, help="of the provider's environment")
    parser.add_argument("--networks", nargs="+", default=["resnet50"], metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32], metavar="N")
    parser.add_argument("--emit", default="gradient", choices=("gradient", "weights", "heatmap"))
    parser.add_argument("--threads", type=int, help="of the CPU's provider, to compare with")
    parser.add_argument("--reduced", action="store_true", help="less than float32 is meant")
    parser.add_argument("--seconds", type=float, default=10.0, help="per batch size")
    parser.add_argument("--there", nargs=2, metavar=("NETWORK", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path[:0] = [str(FOLDER.parent / name) for name in ("engine", "tests")]
    if args.there:
        from against_records import show

        network, folder = args.there
        for batch in args.batches:
            record = measure_there(network, Path(folder), batch, args)
            show(record | {"key": f"{network}, batch {batch}, {args.providers}"})
            found = record["checked"][MAPS]
            print(f"  {record['placement']}")
            print(f"  map against the CPU's: correlation {found['correlation']:.6f}")
        return
    for network in args.networks:
        with tempfile.TemporaryDirectory() as folder:
            export(network, Path(folder), args.emit)
            words = [args.python, __file__, *sys.argv[1:], "--there", network, folder]
            subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
