// What the scored output says of the classes.
import { OnnxcamError } from "./errors.js";

/** Scores [N, C], [N, C, 1, 1] or [N] of one picture as Float32Array [C], dequantised. */
export function scoresOf({ dims, values }, batch, { scale, zeroPoint }) {
  if (dims.length === 0 || dims.slice(1).filter((side) => side !== 1).length > 1) {
    throw new OnnxcamError(
      `the scored output has the shape [${dims.join(", ")}]; expected one score per class`,
    );
  }
  const own = values.slice(0, values.length / batch);
  if (scale === 1 && zeroPoint === 0) return own;
  return own.map((value) => (value - Math.fround(zeroPoint)) * Math.fround(scale));
}

/** The first of the highest scores, and how many there are; NaN counts as the highest. */
export function highest(scores) {
  let best = 0;
  let many = 1;
  for (let i = 1; i < scores.length; i++) {
    const isFirstNaN = Number.isNaN(scores[i]) && !Number.isNaN(scores[best]);
    if (scores[i] > scores[best] || isFirstNaN) [best, many] = [i, 1];
    else if (scores[i] === scores[best]) many += 1;
  }
  return { best, many };
}

/** Probabilities of scores, as they are or by the contract's function; null where it names none. */
export function probabilitiesOf(scores, { kind, activation }) {
  const values = Float64Array.from(scores);
  if (kind === "softmax" || kind === "sigmoid") return values;
  if (kind !== "logits" || activation === null) return null;
  if (activation === "sigmoid") {
    return values.map((x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x))));
  }
  const top = values.reduce((most, x) => Math.max(most, x), -Infinity);
  const powers = values.map((x) => Math.exp(x - top));
  const sum = powers.reduce((total, x) => total + x, 0);
  return powers.map((x) => x / sum);
}
