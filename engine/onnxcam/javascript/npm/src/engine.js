import { mapOf } from "./attribution.js";
import { camOutputs, readContract, TARGET } from "./contract.js";
import { OnnxcamError } from "./errors.js";
import { numberOfHalf } from "./halves.js";
import { loadKernels } from "./kernels.js";
import { findLabel } from "./labels.js";
import { Preparation } from "./preprocess.js";
import { readMetadata } from "./protobuf.js";
import { readBytes } from "./reading.js";
import { Result } from "./result.js";
import { highest, probabilitiesOf, scoresOf } from "./scores.js";
import { METHODS } from "./tables.js";

const HIGHEST_SCORE = -1;

/** Make an engine of an explaining file; see index.d.ts. */
export async function load(model, { ort, wasm, sessionOptions } = {}) {
  if (!ort?.InferenceSession || !ort?.Tensor) {
    throw new OnnxcamError(
      "load: give the runtime, {ort}, what is imported of onnxruntime-node or onnxruntime-web",
    );
  }
  const bytes = await readBytes(model, "the model");
  const contract = readContract(readMetadata(bytes));
  const kernels = await loadKernels(wasm);
  let session;
  try {
    session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 4, ...sessionOptions });
  } catch (error) {
    throw new OnnxcamError(`the model can't be loaded: ${reasonOf(error)}`, { cause: error });
  }
  return new Engine(ort, session, contract, kernels);
}

/** An explaining file, ready to run. */
export class Engine {
  #ort;
  #session;
  #inputs;
  #preparation = null;
  #last = Promise.resolve();

  constructor(ort, session, contract, kernels) {
    this.contract = contract;
    this.kernels = kernels;
    this.#ort = ort;
    this.#session = session;
    this.#inputs = inputsOf(session);
    this.#checkGraph();
    const { preprocess, layout, dtype } = contract.input;
    if (preprocess) this.#preparation = new Preparation(kernels, preprocess, layout, dtype);
  }

  /** Class names in the model's order, or null. */
  get labels() {
    return this.contract.labels;
  }

  /** The names of the layers that the file explains. */
  get layers() {
    return this.contract.layers.map(({ name, tensor }) => name ?? tensor);
  }

  /** The methods that go with the file; none where it holds the finished map. */
  get methods() {
    const { emit } = this.contract;
    if (emit === "heatmap") return [];
    return emit === "weights" ? ["gradcam"] : Object.keys(METHODS);
  }

  /** Whether a class can be chosen; if not, the highest score is always explained. */
  get takesTarget() {
    return this.#inputs.has(TARGET);
  }

  /** Predict and explain one picture; see index.d.ts. */
  async explain(picture, { target, method, layer, inputs } = {}) {
    const index = this.#target(target);
    const chosen = this.#method(method);
    const layerIndex = this.#layer(layer);
    if (this.#preparation === null) {
      throw new OnnxcamError(
        "the file does not say how to make its input of a picture: export it with --preprocess",
      );
    }
    const prepared = this.#preparation.tensorOf(picture);
    const feeds = this.#feeds(prepared.values, inputs ?? {});
    let outputs = await this.#run(feeds, index, layerIndex);
    const { output } = this.contract;
    const scores = scoresOf(outputs[0], this.#batch, output);
    this.#checkLabels(scores.length);
    const { best, many } = highest(scores);
    if (index >= scores.length) throw outOfRange(index, scores.length);
    // Where several classes share the highest output (probabilities saturated to 1), the graph
    // may have decided between their logits otherwise: ask for the class by its index.
    if (index === HIGHEST_SCORE && many > 1 && this.takesTarget) {
      outputs = await this.#run(feeds, best, layerIndex);
    }
    this.#preparation.takeBack(prepared.values);
    const explained = index === HIGHEST_SCORE ? best : index;
    const probabilities = probabilitiesOf(scores, output);
    const differentiated = this.contract.score === "probability" && probabilities !== null;
    const found = mapOf(
      this.kernels,
      outputs.slice(1),
      this.contract.emit,
      chosen,
      differentiated ? probabilities[explained] : null,
    );
    const size = { width: found.width, height: found.height };
    return new Result(this.kernels, prepared.kept, {
      picture,
      map: { ...size, data: found.map },
      raw: { ...size, data: found.raw },
      rectangle: prepared.rectangle,
      target: explained,
      scores,
      probabilities,
      diagnosis: found.diagnosis,
      labels: this.labels,
      method: chosen,
      layer: this.layers[layerIndex],
    });
  }

  /** Give back the runtime's memory. */
  async release() {
    await this.#session.release();
  }

  #checkGraph() {
    const { input, output, layers, emit } = this.contract;
    if (!this.#inputs.has(input.name)) throw absent("input", input.name, this.#session.inputNames);
    const wanted = layers.flatMap((_, layer) => camOutputs(emit, layer));
    for (const name of [output.name, ...wanted]) {
      if (!this.#session.outputNames.includes(name)) {
        throw absent("output", name, this.#session.outputNames);
      }
    }
  }

  /** How many pictures a run takes: 1 unless the model insists on more. */
  get #batch() {
    const side = this.#inputs.get(this.contract.input.name).shape[0];
    return typeof side === "number" && side > 0 ? side : 1;
  }

  #target(target) {
    if (target === undefined || target === null) return HIGHEST_SCORE;
    let index = target;
    if (typeof target === "string") {
      if (/^-?\d+$/.test(target.trim())) index = Number(target);
      else if (this.labels) index = findLabel(this.labels, target);
      else {
        throw new OnnxcamError(`target '${target}': the model has no labels; give the class index`);
      }
    }
    if (!Number.isInteger(index)) {
      throw new OnnxcamError(`target: expected an index or a class name, got ${target}`);
    }
    const classes = this.labels?.length;
    if (index < HIGHEST_SCORE || index >= (classes ?? Infinity)) throw outOfRange(index, classes);
    if (index !== HIGHEST_SCORE && !this.takesTarget) {
      throw new OnnxcamError(
        `target: the model has no input '${TARGET}' and always explains the highest score`,
      );
    }
    return index;
  }

  #method(method) {
    if (this.contract.emit === "heatmap") {
      if (method === undefined || method === this.contract.method) return this.contract.method;
      throw new OnnxcamError("method: the file holds the finished map; leave out the method");
    }
    const name = method ?? "gradcam";
    if (!Object.hasOwn(METHODS, name)) {
      const known = Object.keys(METHODS).join(", ");
      throw new OnnxcamError(`method '${name}' is unknown; known are ${known}`);
    }
    if (!this.methods.includes(name)) {
      throw new OnnxcamError(
        `method '${name}' needs the gradient, the file emits '${this.contract.emit}'; ` +
          "export it with --emit gradient",
      );
    }
    return name;
  }

  #layer(layer) {
    const { layers } = this.contract;
    if (layer === undefined || layer === null) return 0;
    const named = layers.findIndex(({ name, tensor }) => layer === name || layer === tensor);
    if (named >= 0) return named;
    if (Number.isInteger(layer) && layer >= 0 && layer < layers.length) return layer;
    const known = this.layers.map((name, i) => `${i} '${name}'`).join(", ");
    throw new OnnxcamError(`layer '${layer}': the model explains ${known}`);
  }

  #checkLabels(classes) {
    if (this.labels === null || this.labels.length === classes) return;
    throw new OnnxcamError(`labels: ${this.labels.length} names for ${classes} classes`);
  }

  /** The model's inputs but the target; a fixed batch is filled up with copies. */
  #feeds(values, further) {
    const { name, dtype } = this.contract.input;
    const batch = this.#batch;
    const all = batch === 1 ? values : new values.constructor(values.length * batch);
    for (let i = 0; i < batch && batch > 1; i++) all.set(values, i * values.length);
    const dims = [batch, ...this.#preparation.shape];
    const feeds = { [name]: new this.#ort.Tensor(dtype, this.#native(dtype, all), dims) };
    const needed = [...this.#inputs.keys()].filter((each) => each !== name && each !== TARGET);
    const missing = needed.filter((each) => !Object.hasOwn(further, each));
    if (missing.length > 0) {
      const names = missing.join(", ");
      throw new OnnxcamError(`the model takes further inputs: give ${names} in inputs`);
    }
    const unknown = Object.keys(further).find((each) => !needed.includes(each));
    if (unknown !== undefined) {
      const known = needed.join(", ") || "none";
      throw new OnnxcamError(`inputs: no further input '${unknown}'; the model's are ${known}`);
    }
    return { ...feeds, ...further };
  }

  /** Where the runtime has arrays of float16, tensors want them. */
  #native(dtype, values) {
    if (dtype !== "float16" || typeof Float16Array === "undefined") return values;
    return new Float16Array(values.buffer);
  }

  /** The scored output and the layer's own, in this order, as {dims, values: Float32Array}. */
  async #run(feeds, target, layer) {
    const names = [this.contract.output.name, ...camOutputs(this.contract.emit, layer)];
    const given = { ...feeds };
    if (this.takesTarget) {
      const { shape } = this.#inputs.get(TARGET);
      const perImage = shape.length < 2 ? [] : [typeof shape[1] === "number" ? shape[1] : 1];
      const dims = [this.#batch, ...perImage];
      const targets = new BigInt64Array(dims.reduce((a, b) => a * b, 1)).fill(BigInt(target));
      given[TARGET] = new this.#ort.Tensor("int64", targets, dims);
    }
    // One run after the other: not every backend can do two at once.
    const run = this.#last.then(() => this.#session.run(given, names));
    this.#last = run.catch(() => {});
    let outputs;
    try {
      outputs = await run;
    } catch (error) {
      await this.#blameTarget(feeds, target);
      throw new OnnxcamError(`running the model failed: ${reasonOf(error)}`, { cause: error });
    }
    return names.map((name) => ({ dims: outputs[name].dims, values: floats(outputs[name]) }));
  }

  /** Throw if the target is out of range in a file whose labels do not say so. */
  async #blameTarget(feeds, target) {
    if (target === HIGHEST_SCORE || this.labels) return;
    const [scores] = await this.#run(feeds, HIGHEST_SCORE, 0);
    const classes = scores.values.length / this.#batch;
    if (target >= classes) throw outOfRange(target, classes);
  }
}

function inputsOf(session) {
  if (!session.inputMetadata) {
    throw new OnnxcamError("this onnxruntime is too old: onnxcam needs 1.22 or newer");
  }
  return new Map(session.inputMetadata.map((each) => [each.name, each]));
}

/** A tensor's values as Float32Array. */
function floats(tensor) {
  const { data, type } = tensor;
  if (data instanceof Float32Array) return data;
  if (type === "float16" && data instanceof Uint16Array) {
    return Float32Array.from(data, numberOfHalf);
  }
  return Float32Array.from(data, Number);
}

function absent(kind, name, present) {
  return new OnnxcamError(
    `contract: the graph has no ${kind} '${name}'; it has ${present.join(", ")}`,
  );
}

function outOfRange(index, classes) {
  const last = classes === undefined ? "the number of classes" : classes - 1;
  return new OnnxcamError(`target ${index}: expected 0 to ${last}, or -1 for the highest score`);
}

function reasonOf(error) {
  const text = String(error?.message ?? error).replace(/\s+/g, " ").trim();
  return text.length > 400 ? `${text.slice(0, 400)}...` : text;
}
