"""The npm package in Node, asked from Python: one process for a list of questions."""

from __future__ import annotations

import base64
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from helpers_browser import install_onnxruntime_node
from helpers_native import run
from onnxcam.javascript.package import write_package
from onnxcam.javascript.wasm import kernels_wasm

# Questions and answers are JSON; arrays are {dtype, shape, base64} on both sides.
PROGRAM = """
import fs from "node:fs";
import ort from "onnxruntime-node";
import * as onnxcam from "onnxcam";

const KINDS = {
  uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array, float64: Float64Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array,
};
const array = ({ dtype, base64 }) => {
  const bytes = Uint8Array.from(Buffer.from(base64, "base64"));
  return new KINDS[dtype](bytes.buffer);
};
const coded = (values) => ({
  dtype: Object.keys(KINDS).find((name) => values instanceof KINDS[name]) ?? "uint8",
  shape: [values.length],
  base64: Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("base64"),
});
const picture = ({ pixels, ...size }) => ({ ...size, data: array(pixels) });
const map = ({ values, ...size }) => ({ ...size, data: array(values) });
const kernels = await onnxcam.loadKernels();
const engines = new Map();

const actions = {
  async explain({ model, picture: given, options, overlays = [], twice = false }) {
    if (!engines.has(model)) engines.set(model, await onnxcam.load(model, { ort }));
    const engine = engines.get(model);
    const asked = picture(given);
    for (const [name, values] of Object.entries(options?.inputs ?? {})) {
      if (!values.base64) continue;
      options.inputs[name] = new ort.Tensor(values.dtype, array(values), values.shape);
    }
    const runs = [engine.explain(asked, options), ...(twice ? [engine.explain(asked)] : [])];
    const [result] = await Promise.all(runs);
    const { target, label, probability, score, method, layer, rectangle, diagnosis } = result;
    return {
      target, label, probability, score, method, layer, rectangle, top: result.top(3),
      diagnosis: { ...diagnosis, minimum: String(diagnosis.minimum) },
      map: coded(result.map.data), size: [result.map.height, result.map.width],
      raw: coded(result.raw.data), heatmap: coded(result.heatmap()),
      overlays: overlays.map((options) => coded(result.overlay(options).data)),
      methods: engine.methods, layers: engine.layers,
    };
  },
  async load({ base64, path }) {
    const model = path ?? Uint8Array.from(Buffer.from(base64, "base64"));
    const engine = await onnxcam.load(model, { ort });
    await engine.release();
    return {};
  },
  async tensor({ picture: given, preprocess, layout, dtype }) {
    const { Preparation } = await import(`${process.cwd()}/node_modules/onnxcam/src/preprocess.js`);
    const { readContract } = await import(`${process.cwd()}/node_modules/onnxcam/src/contract.js`);
    const document = {
      version: 1, emit: "gradient", score: "logit", layer: { tensor: "a" },
      output: { name: "b", kind: "logits" }, input: { name: "c", dtype, layout, preprocess },
    };
    const contract = readContract(new Map([["onnxcam", JSON.stringify(document)]]));
    const preparation = new Preparation(kernels, contract.input.preprocess, layout, dtype);
    const { values, rectangle } = preparation.tensorOf(picture(given));
    return { values: coded(values), rectangle };
  },
  async overlay({ picture: given, map: values, options }) {
    const pixels = onnxcam.overlay(kernels, map(values), picture(given), options).data;
    const { width, height } = given;
    // Once more, into memory of the caller's that starts anywhere.
    const data = new Uint8ClampedArray(new ArrayBuffer(pixels.length + 1), 1);
    const out = { width, height, data };
    const again = onnxcam.overlay(kernels, map(values), picture(given), { ...options, out });
    if (again !== out || Buffer.compare(Buffer.from(data), Buffer.from(pixels))) throw Error("out");
    return { pixels: coded(pixels) };
  },
  async metadata({ base64 }) {
    const { readMetadata } = await import(`${process.cwd()}/node_modules/onnxcam/src/protobuf.js`);
    return { pairs: [...readMetadata(Uint8Array.from(Buffer.from(base64, "base64")))] };
  },
  async halves({ values }) {
    const halves = await import(`${process.cwd()}/node_modules/onnxcam/src/halves.js`);
    const bits = Uint16Array.from(array(values), halves.halfOf);
    const back = Float64Array.from({ length: 65536 }, (_, i) => halves.numberOfHalf(i));
    return { bits: coded(bits), back: coded(back) };
  },
  async tables() {
    const { METHODS, BLENDS, COLORMAPS } = onnxcam;
    const colors = Object.entries(COLORMAPS).map(([name, table]) => [name, coded(table)]);
    return { methods: Object.keys(METHODS), blends: BLENDS, colormaps: Object.fromEntries(colors) };
  },
};

const answers = [];
for (const { action, ...given } of JSON.parse(fs.readFileSync(process.argv[2], "utf8"))) {
  try {
    answers.push(await actions[action](given));
  } catch (error) {
    answers.push({ error: error.message, kind: error.name });
  }
}
fs.writeFileSync(process.argv[3], JSON.stringify(answers));
"""


@functools.cache
def wasm() -> bytes:
    """The kernels, built once in a run of the tests at most."""
    return kernels_wasm()


def install(folder: Path) -> None:
    """The package and onnxruntime-node into `folder/node_modules`, as a user would."""
    write_package(folder / "onnxcam-package", wasm())
    install_onnxruntime_node(folder, "./onnxcam-package", "typescript@5")
    (folder / "run.mjs").write_text(PROGRAM)


class Node:
    """Asks the package questions; `folder` is where it is installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def ask(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers; arrays in them are NumPy's, errors have `error` and `kind`."""
        given = self.folder / "questions.json"
        answer = self.folder / "answers.json"
        given.write_text(json.dumps(questions, default=_encoded))
        run(["node", "run.mjs", given, answer], cwd=self.folder)
        found: list[dict[str, Any]] = json.loads(answer.read_text(), object_hook=_decoded)
        return found

    def file(self, content: bytes) -> str:
        """A new file of this content."""
        self._count += 1
        path = self.folder / f"model{self._count}.onnx"
        path.write_bytes(content)
        return str(path)


def picture_of(pixels: np.ndarray) -> dict[str, Any]:
    """A uint8 array [H, W, ...] as a question's picture."""
    return {"width": pixels.shape[1], "height": pixels.shape[0], "pixels": pixels}


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"dtype": value.dtype.name, "shape": list(value.shape), "base64": data}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(type(value))


def _decoded(document: dict[str, Any]) -> Any:
    if "base64" not in document:
        return document
    data = base64.b64decode(document["base64"])
    return np.frombuffer(data, document["dtype"]).reshape(document["shape"])
