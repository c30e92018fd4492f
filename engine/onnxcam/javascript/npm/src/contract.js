// What an explaining file promises, in its metadata; `onnxcam.contract` in Python has the form.
import { OnnxcamError } from "./errors.js";

export const TARGET = "cam_target";
const VERSION = 1;
/** In the order of the kernels' numbers for them. */
export const FILTERS = ["nearest", "bilinear", "bicubic"];
const ACTIVATIONS = ["softmax", "sigmoid", null];
const OUTPUTS_OF_EMIT = {
  gradient: ["cam_activation", "cam_gradient"],
  weights: ["cam_activation", "cam_weights"],
  heatmap: ["cam_heatmap"],
};

/** The outputs that explain the layer of that number: "cam_gradient", "cam_gradient_1", ... */
export function camOutputs(emit, layer) {
  return OUTPUTS_OF_EMIT[emit].map((name) => (layer === 0 ? name : `${name}_${layer}`));
}

/**
 * The contract in an ONNX file's metadata, every field present and checked.
 *
 * @param {Map<string, string>} metadata
 * @throws {OnnxcamError} there is none, it is of an unknown version, or malformed.
 */
export function readContract(metadata) {
  const text = metadata.get("onnxcam");
  if (text === undefined) {
    throw new OnnxcamError(
      "this is not an explaining file (it has no contract); make one of it with 'onnxcam export'",
    );
  }
  let document;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new OnnxcamError(`the model's 'onnxcam' metadata is not JSON: ${error.message}`);
  }
  if (document?.version !== VERSION) {
    throw new OnnxcamError(
      `contract version: expected ${VERSION}, found ${JSON.stringify(document?.version)}; ` +
        "export the model again with this version of onnxcam, or upgrade onnxcam",
    );
  }
  try {
    return contractOf(document);
  } catch (error) {
    throw new OnnxcamError(`the model's 'onnxcam' metadata is malformed: ${error.message}`);
  }
}

function contractOf(document) {
  const { input, output } = document;
  const layers = document.layers ?? [document.layer];
  if (!Array.isArray(layers) || layers.length === 0) throw new Error("layers: expected a list");
  const { scale = 1, zero_point: zeroPoint = 0 } = output;
  if (!(number("output.scale", scale) > 0)) throw new Error("output.scale: expected more than 0");
  return {
    layers: layers.map((each) => ({
      tensor: string("layer.tensor", each.tensor),
      name: each.name == null ? null : string("layer.name", each.name),
    })),
    emit: oneOf("emit", document.emit, Object.keys(OUTPUTS_OF_EMIT)),
    method: document.method == null ? null : string("method", document.method),
    score: oneOf("score", document.score, ["logit", "probability"]),
    output: {
      name: string("output.name", output.name),
      kind: oneOf("output.kind", output.kind, ["logits", "softmax", "sigmoid", "raw"]),
      activation: oneOf("output.activation", output.activation ?? null, ACTIVATIONS),
      scale,
      zeroPoint: whole("output.zero_point", zeroPoint),
    },
    input: {
      name: string("input.name", input.name),
      dtype: string("input.dtype", input.dtype),
      layout: oneOf("input.layout", input.layout, ["NCHW", "NHWC"]),
      preprocess: input.preprocess == null ? null : preprocessingOf(input.preprocess),
    },
    labels: document.labels == null ? null : list("labels", document.labels, string),
  };
}

function preprocessingOf(document) {
  const size = list("size", document.size, positive);
  if (size.length !== 2) throw new Error("size: expected [height, width]");
  const color = oneOf("color", document.color ?? "RGB", ["RGB", "BGR", "GRAY"]);
  const channels = color === "GRAY" ? 1 : 3;
  const [mean, std] = ["mean", "std"].map((key, i) => {
    const given = document[key] ?? [i];
    const values = list(key, Array.isArray(given) ? given : [given], number);
    if (values.length !== 1 && values.length !== channels) {
      throw new Error(`${key}: expected 1 or ${channels} numbers, got ${values.length}`);
    }
    return Array.from({ length: channels }, (_, c) => values[values.length === 1 ? 0 : c]);
  });
  const scale = number("scale", document.scale ?? 1);
  if (scale <= 0 || std.some((value) => value <= 0)) {
    throw new Error("std and scale must be greater than zero");
  }
  return { size, color, channels, scale, mean, std, resize: resizeOf(document.resize ?? {}, size) };
}

function resizeOf(document, size) {
  const mode = oneOf("resize.mode", document.mode ?? "stretch", ["stretch", "crop"]);
  const shorterSide = document.shorter_side ?? null;
  if (mode === "crop" && positive("resize.shorter_side", shorterSide) < Math.max(...size)) {
    throw new Error(`resize.shorter_side ${shorterSide} is smaller than the crop`);
  }
  return {
    mode,
    shorterSide,
    filter: oneOf("resize.filter", document.filter ?? "bilinear", FILTERS),
    antialias: oneOf("resize.antialias", document.antialias ?? true, [true, false]),
  };
}

function oneOf(key, value, allowed) {
  if (allowed.includes(value)) return value;
  throw new Error(`${key}: expected one of ${allowed.join(", ")}; got ${JSON.stringify(value)}`);
}

function string(key, value) {
  if (typeof value === "string") return value;
  throw new Error(`${key}: expected a string, got ${JSON.stringify(value)}`);
}

function number(key, value) {
  if (Number.isFinite(value)) return value;
  throw new Error(`${key}: expected a finite number, got ${JSON.stringify(value)}`);
}

function whole(key, value) {
  if (Number.isInteger(value)) return value;
  throw new Error(`${key}: expected a whole number, got ${JSON.stringify(value)}`);
}

function positive(key, value) {
  if (whole(key, value) >= 1) return value;
  throw new Error(`${key}: expected a whole number greater than zero, got ${value}`);
}

function list(key, values, check) {
  if (Array.isArray(values)) return values.map((value) => check(key, value));
  throw new Error(`${key}: expected a list, got ${JSON.stringify(values)}`);
}
