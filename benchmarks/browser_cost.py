"""What explaining costs in a browser: from a picture to its overlay, over the plain forward pass.

    python benchmarks/browser_cost.py            # MobileNetV2, random weights; needs torch
    python benchmarks/browser_cost.py FILE.onnx  # a plain ONNX file of yours

Both run in the same tab of headless Chromium, on onnxruntime-web's WebAssembly, by turns: the plain
model on a picture's finished tensor, and everything that the site does with that picture, 640x480:
resize and normalise, run the explaining model, map, colours, canvas. Prints medians, the median of
the pairwise ratios with its quartiles, the ratio of the tab's own processor time (which other
programs on the machine disturb less), and how many bytes a visitor loads before the first overlay,
the model aside. Needs Chromium, its driver, npm and selenium.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxcam_export import from_onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from explaining_cost import random_network

from helpers_browser import chromium, packed_onnxruntime_web, served, why_no_browser
from onnxcam.web.runtime import runtime_files
from onnxcam.web.site import site_files, write_site

PAGE = b"""<!doctype html><meta charset="utf-8"><canvas id="view"></canvas>
<script type="module" src="measure.js"></script>"""
MEASURE = b"""
import * as ort from "./onnxruntime/ort.wasm.min.js";
import { load } from "./onnxcam/index.js";
import { Preparation } from "./onnxcam/src/preprocess.js";
import { download, unpacked } from "./loading.js";

const site = await (await fetch("site.json")).json();
ort.env.wasm.wasmBinary = await unpacked(await download(site.runtime.file, () => {}));
ort.env.wasm.wasmPaths = { mjs: new URL(site.runtime.script, location.href).href };
ort.env.wasm.numThreads = 1;
const engine = await load("model.onnx", { ort });
const plain = await ort.InferenceSession.create("plain.onnx");
const picture = new ImageData(640, 480);
for (let i = 0; i < picture.data.length; i++) picture.data[i] = i % 4 === 3 ? 255 : (i * i) % 251;
const { name, preprocess, layout, dtype } = engine.contract.input;
const preparation = new Preparation(engine.kernels, preprocess, layout, dtype);
const { values } = preparation.tensorOf(picture);
const feeds = { [name]: new ort.Tensor(dtype, values, [1, ...preparation.shape]) };
const context = document.getElementById("view").getContext("2d");
Object.assign(context.canvas, { width: 640, height: 480 });
const canvas = new ImageData(640, 480);

async function explain() {
  const result = await engine.explain(picture);
  const explained = performance.now();
  context.putImageData(result.overlay({ out: canvas }), 0, 0);
  return explained;
}

const roads = { plain: () => plain.run(feeds), explain };
window.several = async (name, times) => {
  for (let i = 0; i < times; i++) await roads[name]();
};
window.measure = async (seconds) => {
  for (let i = 0; i < 5; i++) {
    await plain.run(feeds);
    await explain();
  }
  const rows = [];
  for (const end = performance.now() + 1000 * seconds; performance.now() < end; ) {
    const start = performance.now();
    await plain.run(feeds);
    const middle = performance.now();
    const explained = await explain();
    const done = performance.now();
    rows.push([middle - start, done - middle, done - explained]);
  }
  return rows;
};
"""


def first_load(files: dict[str, bytes]) -> tuple[int, int]:
    """Bytes of the site without model and example: as stored, and with everything compressed."""
    needed = {k: v for k, v in files.items() if k != "model.onnx" and not k.startswith("sample")}
    packed = {k: v if k.endswith(".gz") else gzip.compress(v) for k, v in needed.items()}
    return sum(map(len, needed.values())), sum(map(len, packed.values()))


def ask(driver: Any, call: str) -> Any:
    """What a function of the page promises, once the page is there."""
    return driver.execute_async_script(
        "const done = arguments[0], wait = () => window.measure"
        f" ? {call}.then(done) : setTimeout(wait, 50); wait();"
    )


def processor_ratios(driver: Any, seconds: float) -> list[float]:
    """Explaining over plain, in processor time of the tab's thread, from pairs of short series."""
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    def spent(name: str) -> float:
        taken = []
        for _ in range(2):
            found = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
            taken.append({each["name"]: each["value"] for each in found}["TaskDuration"])
            if len(taken) == 1:
                ask(driver, f"several('{name}', 4)")
        return taken[1] - taken[0]

    ratios = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(ratios) < 5:
        plain = spent("plain")
        ratios.append(spent("explain") / plain)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", metavar="FILE.onnx")
    parser.add_argument("--seconds", type=float, default=15.0)
    args = parser.parse_args()
    missing = why_no_browser()
    if missing:
        sys.exit(f"browser_cost: {missing}")
    plain = onnx.load(args.file) if args.file else random_network("mobilenet_v2")
    explaining = from_onnx(plain, preprocess="imagenet").SerializeToString()
    with tempfile.TemporaryDirectory() as name:
        package = packed_onnxruntime_web(Path(name))
        files = site_files(explaining, "benchmark", runtime_files(package))
        stored, packed = first_load(files)
        site = Path(name) / "site"
        own = {"index.html": PAGE, "measure.js": MEASURE, "plain.onnx": plain.SerializeToString()}
        write_site(site, files | own)
        with served(site) as address, chromium() as driver:
            driver.set_script_timeout(60 + args.seconds)
            driver.get(address)
            rows = ask(driver, f"measure({args.seconds})")
            processor = processor_ratios(driver, args.seconds)
            version = driver.capabilities["browserVersion"]
    before, after, painting = (statistics.median(column) for column in zip(*rows, strict=True))
    low, middle, high = np.percentile([b / a for a, b, _ in rows], [25, 50, 75])
    cpu = np.percentile(processor, [25, 50, 75])
    title = Path(args.file).stem if args.file else "MobileNetV2"
    print(f"Chromium {version}, one thread, {len(rows)} pairs")
    print(
        "| model | plain ms | picture to overlay ms | of that painting | ratio (quartiles) "
        "| of processor time |"
    )
    print("|---|---|---|---|---|---|")
    print(
        f"| {title} | {before:.2f} | {after:.2f} | {painting:.2f} | "
        f"{middle:.3f} ({low:.3f} to {high:.3f}) | "
        f"{cpu[1]:.3f} ({cpu[0]:.3f} to {cpu[2]:.3f}) |"
    )
    print(
        f"before the first overlay, without the model: {stored / 2**20:.2f} MiB from a plain "
        f"server, {packed / 2**20:.2f} MiB from one that compresses"
    )


if __name__ == "__main__":
    main()
