// The model lives here, so that the page never waits for it.
import * as ort from "./onnxruntime/ort.wasm.min.js";

import { load, overlay } from "./onnxcam/index.js";
import { download, unpacked } from "./loading.js";

const MOST_THREADS = 4;

let engine;
let pictures; // what the model sees, and the size that is shown
let result;

const actions = {
  /** Fetch and start everything; what the page has to know of the model. */
  async load({ site }) {
    const total = site.runtime.bytes + site.kernels.bytes + site.model.bytes;
    let loaded = 0;
    const report = (bytes) => {
      loaded += bytes;
      postMessage({ progress: Math.min(loaded / total, 1), loaded, total });
    };
    const [runtime, kernels, model] = await Promise.all(
      [site.runtime, site.kernels, site.model].map(({ file }) => download(file, report)),
    );
    postMessage({ progress: null });
    const { wasm } = ort.env;
    wasm.wasmBinary = await unpacked(runtime);
    wasm.wasmPaths = { mjs: new URL(site.runtime.script, self.location.href).href };
    const cores = Math.min(MOST_THREADS, Math.ceil((navigator.hardwareConcurrency || 2) / 2));
    wasm.numThreads = self.crossOriginIsolated ? cores : 1;
    ort.env.logLevel = "fatal";
    engine = await load(model, { ort, wasm: await unpacked(kernels) });
    const { labels, layers, methods, takesTarget, contract } = engine;
    const [height, width] = contract.input.preprocess.size;
    const size = `${width}x${height}`;
    return { labels, layers, methods, takesTarget, size, threads: wasm.numThreads };
  },

  /** Predict and explain: a new picture, or the last one once more with another question. */
  async explain({ picture, shown, ...question }) {
    const begin = performance.now();
    const asked = picture ? { picture, shown: shown ?? picture } : pictures;
    const found = await engine.explain(asked.picture, question);
    [pictures, result] = [asked, found];
    const { target, scores, probabilities, diagnosis } = result;
    return { target, scores, probabilities, diagnosis, milliseconds: performance.now() - begin };
  },

  /** Paint the last result, over the picture that is shown or over the whole one. */
  paint({ whole, spare, ...options }) {
    const begin = performance.now();
    const { width, height } = pictures.shown;
    const fits = !whole && spare?.byteLength === 4 * width * height;
    if (fits) options.out = { width, height, data: new Uint8ClampedArray(spare) };
    const isWhole = whole || pictures.shown === pictures.picture;
    const painted = isWhole ? result.overlay(options) : overShown(options);
    return { ...painted, milliseconds: performance.now() - begin };
  },
};

function overShown(options) {
  const { picture, shown } = pictures;
  const [x, y] = [shown.width / picture.width, shown.height / picture.height];
  const { left, top, right, bottom } = result.rectangle;
  const rectangle = { left: left * x, top: top * y, right: right * x, bottom: bottom * y };
  return overlay(engine.kernels, result.mapFor(options), shown, { rectangle, ...options });
}

onmessage = async ({ data: { id, action, given } }) => {
  try {
    const answer = await actions[action](given);
    const transferred = answer.data ? [answer.data.buffer] : [];
    postMessage({ id, answer }, transferred);
  } catch (error) {
    postMessage({ id, error: error?.message || String(error) });
  }
};
