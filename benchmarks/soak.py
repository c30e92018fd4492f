"""Many maps in a loop, many threads, one engine: does memory grow, are all results identical?

    python benchmarks/soak.py                       # MobileNetV2 with random weights; needs torch
    python benchmarks/soak.py FILE.cam.onnx         # an explaining file of your own
    python benchmarks/soak.py --maps 10000 --threads 8

Each thread runs every method and every picture in an order of its own. What one thread
computed at the start, all have to compute, bit for bit. Exit status 1 if one does not, or if the
process has grown by more than 1 MiB since the warm-up (a tenth of the maps, by the same threads).
Linux only (/proc).
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path

import numpy as np

from onnxcam import Engine
from onnxcam.methods import METHODS

ALLOWED_GROWTH = 1 << 20
PICTURES = 4


def resident() -> int:
    """Bytes of memory this process occupies."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


class Soak:
    """The work, its expected results, and what went wrong."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        info = engine.model.picture_input
        fallback = (1, 3, 224, 224)
        shape = [1, *(s or f for s, f in zip(info.shape[1:], fallback[1:], strict=True))]
        random = np.random.default_rng(0)
        self.tensors = [random.uniform(0, 1, shape).astype(info.dtype) for _ in range(PICTURES)]
        emit = engine.contract.emit
        self.methods = list(METHODS) if emit == "gradient" else [engine.method]
        self.jobs = [(i, name) for i in range(PICTURES) for name in self.methods]
        self.expected = {job: self.maps(job) for job in self.jobs}
        self.differing = 0

    def maps(self, job: tuple[int, str]) -> np.ndarray:
        i, method = job
        return self.engine.maps(self.tensors[i], method=method)

    def work(self, seed: int, count: int) -> None:
        """`count` maps in an order of this thread's own."""
        order = np.random.default_rng(seed).permutation(len(self.jobs))
        out = np.empty_like(self.expected[self.jobs[0]])
        for n in range(count):
            i, method = job = self.jobs[order[n % len(order)]]
            self.engine.maps(self.tensors[i], method=method, out=out)
            if not np.array_equal(out, self.expected[job]):
                self.differing += 1

    def run(self, threads: int, warm_up: int, count: int) -> tuple[int, int]:
        """Resident bytes between `warm_up` and `count` maps of the same threads, and after."""
        between, after = threading.Barrier(threads + 1), threading.Barrier(threads + 1)
        go_on = threading.Event()

        def thread(seed: int) -> None:
            self.work(seed, -(-warm_up // threads))
            between.wait()
            go_on.wait()
            self.work(seed, -(-count // threads))
            after.wait()

        workers = [threading.Thread(target=thread, args=(i,)) for i in range(threads)]
        for worker in workers:
            worker.start()
        between.wait()
        before = resident()
        go_on.set()
        after.wait()
        grown = resident()
        for worker in workers:
            worker.join()
        return before, grown


def random_network() -> bytes:
    """MobileNetV2 with random weights, explaining."""
    from explaining_cost import random_network as network

    from onnxcam_export import from_onnx

    return from_onnx(network("mobilenet_v2")).SerializeToString()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", metavar="FILE.cam.onnx")
    parser.add_argument("--maps", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=8)
    args = parser.parse_args()
    soak = Soak(Engine(args.file or random_network(), threads=1))
    start = time.perf_counter()
    warm_up = max(args.maps // 10, 50 * args.threads)
    before, after = soak.run(args.threads, warm_up, args.maps)
    seconds, growth = time.perf_counter() - start, after - before
    print(
        f"{args.maps} maps, {args.threads} threads: {seconds:.1f} s, {soak.differing} differ, "
        f"{before / 2**20:.1f} MiB after the warm-up, {growth / 2**20:+.2f} MiB since"
    )
    return int(soak.differing > 0 or growth > ALLOWED_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
