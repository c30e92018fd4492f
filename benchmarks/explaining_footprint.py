"""What an explaining file weighs: bytes on disk, and the peak memory of a process that runs it.

    python benchmarks/explaining_footprint.py                # random weights; needs torch
    python benchmarks/explaining_footprint.py FILE.onnx ...  # your own plain ONNX files

The peak (VmHWM, Linux) is that of a process that loads the file with onnxruntime and runs it
three times; what Python and onnxruntime take themselves is in both numbers of a ratio, and
subtracted in the column behind it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from explaining_cost import NETWORKS, random_network

from onnxcam_export import from_onnx

RUN = """
import sys
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = 2
options.log_severity_level = 3
if len(sys.argv) > 1:
    session = ort.InferenceSession(sys.argv[1], options, ["CPUExecutionProvider"])
    feed = {}
    for value in session.get_inputs():
        shape = [1 if i == 0 else 224 if not isinstance(d, int) else d
                 for i, d in enumerate(value.shape)]
        targets = value.type == "tensor(int64)"
        feed[value.name] = np.full(shape, -1) if targets else np.zeros(shape, np.float32)
    for _ in range(3):
        session.run(None, feed)
status = open("/proc/self/status").read()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def peak(*arguments: str) -> float:
    """Megabytes of a fresh process, the median of three."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True
        )
        for _ in range(3)
    ]
    return float(np.median([int(run.stdout) for run in runs])) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE.onnx")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--emit", choices=("gradient", "weights", "heatmap"), default="gradient")
    args = parser.parse_args()
    alone = peak()
    print(f"Python and onnxruntime alone: {alone:.0f} MB; emit {args.emit}\n")
    print("| model | plain MB | bytes: ratio | plain peak MB | peak: ratio | without the runtime |")
    print("|---|---|---|---|---|---|")
    for name in args.files or args.networks:
        plain = onnx.load(name) if args.files else random_network(name)
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / "plain.onnx", Path(folder) / "explaining.onnx"]
            onnx.save(plain, paths[0])
            from_onnx(plain, emit=args.emit, output=paths[1])
            sizes = [path.stat().st_size for path in paths]
            peaks = [peak(str(path)) for path in paths]
        own = (peaks[1] - alone) / (peaks[0] - alone)
        print(
            f"| {Path(name).stem} | {sizes[0] / 1e6:.1f} | {sizes[1] / sizes[0]:.4f} "
            f"| {peaks[0]:.0f} | {peaks[1] / peaks[0]:.3f} | {own:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
