"""From the start of a process to its first result, and its peak memory.

    python benchmarks/cold_start.py                # ResNet-18 with random weights; needs torch
    python benchmarks/cold_start.py FILE.onnx      # your own plain ONNX file with a picture input

Each row is a fresh Python process, and the rows take turns: a plain prediction by onnxruntime of
a finished array; the same of a picture (decoded by Pillow, resized, normalised with NumPy); and
onnxcam's engine: picture in, overlay out, with the kernels from the library and by Numba.
Prints medians of wall time and of VmHWM (Linux), and the ratios to the plain prediction with
their quartiles, of wall time and of processor time (which a loaded machine disturbs less).
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
from typing import NamedTuple

import numpy as np
import onnx
from PIL import Image

from onnxcam import compiled
from onnxcam_export import from_onnx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

_REPORT = """
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(line.split()[1])
"""
_SESSION = """
import sys
import numpy as np
import onnxruntime as ort
plain, explaining, picture, threads = *sys.argv[1:4], int(sys.argv[4])
options = ort.SessionOptions()
options.intra_op_num_threads = threads
session = ort.InferenceSession(plain, options, ["CPUExecutionProvider"])
name = session.get_inputs()[0].name
"""
_ARRAY = f"""{_SESSION}
session.run(None, {{name: np.zeros((1, 3, 224, 224), np.float32)}})
{_REPORT}"""
_PICTURE = f"""{_SESSION}
from PIL import Image
pixels = np.asarray(Image.open(picture).resize((224, 224)), np.float32) / 255
pixels = (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
session.run(None, {{name: np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])}})
{_REPORT}"""
_ENGINE = f"""
import sys
from onnxcam import Engine
plain, explaining, picture, threads = *sys.argv[1:4], int(sys.argv[4])
Engine(explaining, threads=threads).explain(picture).overlay()
{_REPORT}"""


def rows() -> dict[str, tuple[str, dict[str, str]]]:
    """Title to the program and what it finds in its environment."""
    found = {
        "onnxruntime, array": (_ARRAY, {}),
        "onnxruntime, picture": (_PICTURE, {}),
        "onnxcam, picture to overlay": (_ENGINE, {}),
        "the same, kernels by Numba (cached)": (_ENGINE, {compiled.VARIABLE: "jit"}),
    }
    if compiled.origin() == "jit":
        del found["onnxcam, picture to overlay"]
        print("no library here: `onnxcam native build` makes it", file=sys.stderr)
    return found


class Run(NamedTuple):
    """Seconds from start to end of a process, its seconds of processor time, its mebibytes."""

    wall: float
    processor: float
    memory: float


def measure(program: str, words: list[str], environment: dict[str, str]) -> Run:
    """Run a process."""
    before = os.times()
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=True,
    )
    wall, after = time.perf_counter() - start, os.times()
    own = after.children_user - before.children_user + after.children_system
    return Run(wall, own - before.children_system, int(done.stdout) / 1024)


def resnet18() -> onnx.ModelProto:
    """With random weights, exported by torch."""
    import torch

    from helpers_torchvision import torchvision

    network = torchvision.models.resnet18(weights=None).eval()
    program = torch.onnx.export(network, (torch.zeros(1, 3, 224, 224),), dynamo=True, verbose=False)
    return program.model_proto


def _ratio(found: list[float], base: list[float]) -> str:
    ratios = [one / other for one, other in zip(found, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}..{high:.2f})"


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a plain ONNX file, 224x224 RGB")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain, explaining, picture = (
            Path(folder) / name for name in ("plain.onnx", "cam.onnx", "picture.jpg")
        )
        model = onnx.load(args.model) if args.model else resnet18()
        onnx.save(model, plain)
        from_onnx(str(plain), preprocess="imagenet", output=str(explaining))
        pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).resize((640, 480)).save(picture)
        words = [str(plain), str(explaining), str(picture), str(args.threads)]
        programs = rows()
        for program, environment in programs.values():  # caches of the disk and of Numba
            measure(program, words, environment)
        runs: dict[str, list[Run]] = {title: [] for title in programs}
        for _ in range(args.rounds):
            for title, (program, environment) in programs.items():
                runs[title].append(measure(program, words, environment))
    base = runs["onnxruntime, array"]
    print(f"{'':36} {'ms':>6}  {'wall':18}  {'processor':18} {'MiB':>5} {'more':>6}")
    for title, found in runs.items():
        memory = statistics.median(run.memory for run in found)
        more = memory - statistics.median(run.memory for run in base)
        wall = _ratio([run.wall for run in found], [run.wall for run in base])
        processor = _ratio([run.processor for run in found], [run.processor for run in base])
        median = 1000 * statistics.median(run.wall for run in found)
        print(f"{title:36} {median:6.0f}  {wall:18}  {processor:18} {memory:5.0f} {more:6.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
