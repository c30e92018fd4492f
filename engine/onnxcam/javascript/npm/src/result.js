import { OnnxcamError } from "./errors.js";
import { splitSynset } from "./labels.js";
import { enlarged, overlay } from "./painting.js";

/** A picture, its prediction and its explanation; see index.d.ts. */
export class Result {
  #kernels;
  #kept;

  /** @param {object} kept the picture in the kernels' memory, as long as it is there. */
  constructor(kernels, kept, fields) {
    [this.#kernels, this.#kept] = [kernels, kept];
    Object.assign(this, fields);
  }

  get label() {
    return this.#prediction(this.target).label;
  }

  get probability() {
    return this.#prediction(this.target).probability;
  }

  get score() {
    return this.scores[this.target];
  }

  /** The k best classes, best first; the explained one is added when it is not among them. */
  top(k = 10) {
    if (!Number.isInteger(k) || k < 1) {
      throw new OnnxcamError(`top: expected a whole number of at least 1, got ${k}`);
    }
    const order = Array.from(this.scores.keys());
    const value = (index) => (Number.isNaN(this.scores[index]) ? -Infinity : this.scores[index]);
    order.sort((a, b) => value(b) - value(a) || a - b); // NaN last, equal scores by index
    const best = order.slice(0, k);
    if (!best.includes(this.target)) best.push(this.target);
    return best.map((index) => this.#prediction(index));
  }

  /** The map at the picture's size, Float32Array; zero outside of `rectangle`. */
  heatmap() {
    return enlarged(this.#kernels, this.map, this.picture, this.rectangle);
  }

  /** The picture with its map painted over, as RGBA. */
  overlay(options = {}) {
    const given = { rectangle: this.rectangle, ...options };
    const picture = this.#kernels.kept === this.#kept ? this.#kept : this.picture;
    return overlay(this.#kernels, this.mapFor(options), picture, given);
  }

  /** The map that these options of `overlay` show: the signed one for the preset "diverging". */
  mapFor({ preset }) {
    const signed = preset === "diverging" && this.diagnosis.reason !== "non_finite";
    return signed ? this.raw : this.map;
  }

  #prediction(index) {
    const named = this.labels ? splitSynset(this.labels[index]) : { synset: null, name: null };
    return {
      index,
      label: named.name,
      synset: named.synset,
      score: this.scores[index],
      probability: this.probabilities ? this.probabilities[index] : null,
      chosen: index === this.target,
    };
  }
}
