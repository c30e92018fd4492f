"""The C program from its start to the overlay on disk, over the same program only predicting.

    python benchmarks/c_program.py               # ResNet-18 with random weights; needs torch
    python benchmarks/c_program.py FILE.onnx     # your own plain ONNX file, 224x224 RGB

`examples/c/explain` is built with make. It explains a picture of 640x480 with the explaining file,
and predicts (`--plain`) with the plain one, by turns, each time in a fresh process. Prints medians,
and the median of the pairwise ratios with its quartiles, of wall time and of processor time (which
a loaded machine disturbs less).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from cold_start import resnet18
from PIL import Image

from onnxcam.contract import METADATA_KEY
from onnxcam_export import from_onnx

SOURCES = Path(__file__).resolve().parent.parent / "examples" / "c"


def with_contract_of(plain: onnx.ModelProto, explaining: Path) -> onnx.ModelProto:
    """The plain model that also says how to make its input of a picture."""
    found = {entry.key: entry.value for entry in onnx.load(explaining).metadata_props}
    onnx.helper.set_model_props(plain, {METADATA_KEY: found[METADATA_KEY]})
    return plain


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds from start to end of a process, and its seconds of processor time."""
    before = os.times()
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    spent = after.children_user + after.children_system
    return wall, spent - before.children_user - before.children_system


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a plain ONNX file, 224x224 RGB")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain, explaining, picture, out = (
            Path(folder) / name for name in ("plain.onnx", "cam.onnx", "in.ppm", "out.ppm")
        )
        make = ["make", "-C", str(SOURCES), f"BUILD={folder}", f"PYTHON={sys.executable}"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        model = onnx.load(args.model) if args.model else resnet18()
        onnx.save(model, plain)
        from_onnx(str(plain), preprocess="imagenet", output=str(explaining))
        onnx.save(with_contract_of(model, explaining), plain)
        pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).resize((640, 480)).save(picture)
        program = [f"{folder}/explain", "--threads", str(args.threads)]
        commands = [
            [*program, "--plain", str(plain), str(picture)],
            [*program, str(explaining), str(picture), str(out)],
        ]
        for command in commands:  # caches of the disk
            measure(command)
        rounds = [[measure(command) for command in commands] for _ in range(args.rounds)]
    for i, title in enumerate(("wall", "processor")):
        predicts, explains = ([each[j][i] for each in rounds] for j in (0, 1))
        ratios = [one / other for one, other in zip(explains, predicts, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        both = [1000 * statistics.median(found) for found in (predicts, explains)]
        print(
            f"{title:10} plain {both[0]:6.1f} ms, explaining {both[1]:6.1f} ms, "
            f"ratio {middle:.3f} ({low:.3f}..{high:.3f})"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
