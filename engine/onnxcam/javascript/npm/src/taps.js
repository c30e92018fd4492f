// Which pixels of a row or column make a pixel of the resized one, and with what weights.
import { FILTERS } from "./contract.js";

/**
 * The taps of `count` results from `first` on, of `size` pixels resized to `resized`: places
 * int64 [count] and weights int32 [count, width * channels], copied out of the kernels' memory.
 *
 * @returns {{starts: BigInt64Array, weights: Int32Array, width: number}} `width` may exceed `size`.
 */
export function taps(kernels, size, resized, first, count, filter, channels) {
  const kind = FILTERS.indexOf(filter);
  const out = kernels.reserve(8);
  kernels.call("resampling_width", [size, resized, first, count, kind, out]);
  const least = Number(kernels.view(BigInt64Array, out, 1)[0]);
  // Three interleaved colours go through vectors of eight.
  const width = channels === 1 ? least : Math.ceil(least / 8) * 8;
  const length = count * width * channels;
  const [starts, weights] = [kernels.reserve(8 * count), kernels.reserve(4 * length)];
  const sizes = [count, width, channels];
  kernels.call("resampling_taps", [size, resized, first, kind, starts, weights], sizes);
  return {
    starts: kernels.view(BigInt64Array, starts, count).slice(),
    weights: kernels.view(Int32Array, weights, length).slice(),
    width,
  };
}
