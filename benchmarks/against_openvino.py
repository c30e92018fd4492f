"""Explaining ResNet-50 and MobileNetV2: onnxcam against openvino_xai's Recipro-CAM.

    python benchmarks/against_openvino.py --openvino-python ENVIRONMENT/bin/python

openvino_xai wants an older OpenVINO and NumPy than PyTorch does today, so it lives in an
environment of its own (`pip install openvino_xai onnxruntime pillow`); this program exports the
files and runs itself there. Recipro-CAM runs the network's head once for every position of the
layer, with all other positions zero, for all classes. Where the head is a mean over space and a
linear layer, as in these two networks, its map is Grad-CAM's before the ReLU, over its own range:
the two must agree within 0.05 before anything is timed (not 0.01 as elsewhere: OpenVINO computes
in bfloat16 by default where the processor can, which the plain forward pass shows as well: scores
0.5 % off, 1e-6 in float32). It is left at that, since its users get the same; the record says
which. One process, as many cores as threads, batch 1, tensor in and map out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
LARGEST_DIFFERENCE = 0.05
OURS, THEIRS = "onnxcam", "openvino_xai, Recipro-CAM"


def export(network: str, folder: Path) -> None:
    """Plain and explaining file of a network with random weights."""
    import onnx
    from explaining_cost import random_network

    from onnxcam_export import from_onnx

    plain = random_network(network)
    onnx.save(plain, folder / "plain.onnx")
    from_onnx(plain, output=folder / "cam.onnx")


def against(folder: Path, threads: int, seconds: float) -> dict[str, Any]:
    """In the environment of openvino_xai."""
    import numpy as np
    import openvino
    import openvino_xai
    from openvino_xai.explainer.explainer import Explainer, ExplainMode

    sys.path.insert(0, str(FOLDER.parent / "engine"))
    from against_records import compare, measure

    from onnxcam import Engine
    from onnxcam.session import Session

    # OpenVINO takes as many threads as the process has cores; openvino_xai lets nobody say less.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    image = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    engine = Engine(folder / "cam.onnx", threads=threads)
    plain = Session(folder / "plain.onnx", threads=threads)
    name = engine.contract.picture.name
    scores = plain.run({name: image}, list(plain.outputs))[engine.contract.output.name]
    target = int(scores.argmax())
    model = openvino.Core().read_model(folder / "plain.onnx")
    model.reshape([1, 3, 224, 224])
    compiled = openvino.Core().compile_model(model, "CPU")
    explainer = Explainer(
        model,
        task=openvino_xai.Task.CLASSIFICATION,
        explain_mode=ExplainMode.WHITEBOX,
        explain_method=openvino_xai.Method.RECIPROCAM,
    )

    def explain() -> Any:
        explanation = explainer(image, targets=target, resize=False, colormap=False)
        return explanation.saliency_map[target]

    signed = engine.maps(image, target, signed=True)[0]
    checked = compare(explain() / 255, (signed - signed.min()) / np.ptp(signed))
    if not checked["difference"] <= LARGEST_DIFFERENCE:
        raise AssertionError(f"maps differ by {checked['difference']:.3g}; not timed")
    record = measure(
        {
            OURS: lambda: engine.maps(image, target),
            THEIRS: explain,
            "onnxruntime, plain forward": lambda: plain.run({name: image}, list(plain.outputs)),
            "OpenVINO, plain forward": lambda: compiled(image),
        },
        seconds,
        OURS,
    )
    return record | {
        "checked": {THEIRS: checked},
        "skipped": {},
        "openvino": openvino.__version__,
        "precision": str(compiled.get_property("INFERENCE_PRECISION_HINT")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet50", "mobilenet_v2"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0, help="per network")
    parser.add_argument("--records", type=Path, help="JSON lines; what is there is not run again")
    parser.add_argument("--openvino-python", default=sys.executable, metavar="P")
    parser.add_argument("--there", nargs=2, metavar=("KEY", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, str(FOLDER.parent / "engine"))
    from against_records import Records, show

    records = Records(args.records)
    if args.there:
        key, folder = args.there
        record = {"key": key, "threads": args.threads}
        record |= against(Path(folder), args.threads, args.seconds)
        records.add(record)
        show(record)
        return
    for network in args.networks:
        key = f"openvino/{network}/batch 1"
        if key in records:
            continue
        print(f"{key} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            export(network, Path(folder))
            words = ["--threads", str(args.threads), "--seconds", str(args.seconds)]
            words += ["--records", str(args.records)] if args.records else []
            command = [args.openvino_python, __file__, *words, "--there", key, folder]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
