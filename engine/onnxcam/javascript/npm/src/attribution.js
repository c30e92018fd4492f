// From what an explaining model puts out to the map of one picture.
import { OnnxcamError } from "./errors.js";
import { METHODS, REASONS } from "./tables.js";

const SATURATED = 1e-6; // p (1 - p), the factor between the gradients of probability and logit

/**
 * The map of the first picture and target of a batch.
 *
 * @param {Kernels} kernels
 * @param {{dims: number[], values: Float32Array}[]} outputs the layer's, in the contract's order.
 * @param {string} emit the contract's.
 * @param {string} method a key of METHODS.
 * @returns {{width, height, map, raw, diagnosis}} `map` is raw through ReLU, divided by its
 *   maximum; both Float32Array.
 */
export function mapOf(kernels, outputs, emit, method, probability) {
  const [first, second] = outputs;
  const spatial = emit === "heatmap" ? first.dims.slice(-2) : first.dims.slice(2);
  const rank = emit === "heatmap" ? [3, 4] : [4];
  if (!rank.includes(first.dims.length)) {
    throw new OnnxcamError(
      `the layer's output has the shape [${first.dims.join(", ")}]; a picture's map needs two ` +
        "spatial axes",
    );
  }
  const [height, width] = spatial;
  const positions = height * width;
  kernels.release();
  let map, raw, slopes;
  const summary = kernels.reserve(4 * 8);
  if (emit === "heatmap") {
    raw = first.values.slice(0, positions);
    kernels.call("summarise", [kernels.place(raw), summary], [1, positions]);
    map = raw;
  } else {
    const channels = first.dims[1];
    slopes = second.values.subarray(0, channels * (emit === "weights" ? 1 : positions));
    if (slopes.length !== channels * (emit === "weights" ? 1 : positions)) {
      throw new OnnxcamError("the model's activation and gradient do not fit together");
    }
    const activation = kernels.place(first.values.subarray(0, channels * positions));
    const given = kernels.place(slopes);
    const [rawAt, mapAt] = [kernels.reserve(4 * positions), kernels.reserve(4 * positions)];
    const name = emit === "weights" ? "weighted_sum" : METHODS[method].kernel;
    kernels.call(name, [activation, given, rawAt, mapAt, summary], [1, channels, positions, 1]);
    raw = kernels.view(Float32Array, rawAt, positions).slice();
    map = kernels.view(Float32Array, mapAt, positions).slice();
  }
  const found = Array.from(kernels.view(Float64Array, summary, 4));
  if (emit === "heatmap" && found[3] > 0) map = new Float32Array(positions);
  return { width, height, map, raw, diagnosis: diagnose(found, positions, slopes, probability) };
}

/** What a raw map holds, and why it says nothing where it does. */
function diagnose([minimum, maximum, positives, nonFinites], size, slopes, probability) {
  let reason = null;
  if (nonFinites > 0) reason = "non_finite";
  else if (positives === 0) reason = reasonOfSilence(minimum, slopes, probability);
  const none = minimum > maximum; // not one finite value
  return {
    minimum: none ? NaN : minimum,
    maximum: none ? NaN : maximum,
    positiveShare: positives / size,
    reason,
    sentence: reason === null ? "" : REASONS[reason],
  };
}

function reasonOfSilence(minimum, slopes, probability) {
  if (minimum < 0) return "all_negative";
  if (slopes === undefined) return "nothing_positive"; // a finished map: all that it tells
  if (slopes.some((value) => value !== 0)) return "all_zero";
  if (probability !== null && probability * (1 - probability) < SATURATED) return "saturated";
  return "zero_gradient";
}
