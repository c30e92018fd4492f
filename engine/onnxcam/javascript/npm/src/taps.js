// Which pixels of a row or column make a pixel of the resized one, and with what weights: Pillow's
// `Resample.c`. A filter stretched by the scale when a picture shrinks, its weights normalised,
// then rounded to whole numbers of 2^-22. Every sum is taken in the same order as in Python, so
// that the weights are the same to the last bit.

const ONE = 2 ** 22;
const FILTERS = {
  bilinear: { reach: 1, at: (x) => Math.max(1 - Math.abs(x), 0) },
  bicubic: { reach: 2, at: keys },
};

/** Keys' kernel (1981) with a = -0.5. */
function keys(distance) {
  const [a, x] = [-0.5, Math.abs(distance)];
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/**
 * The taps of `count` results from `first` on, of `size` pixels resized to `resized`.
 *
 * Result i is the sum over j of `weights[i * width + j] * source[starts[i] + j]`, in units of
 * 2^-22. Every window lies in the source, unless `multiple` makes it wider than that: `width` is a
 * multiple of it. With `colors` every weight stands as many times, for interleaved colours.
 *
 * @returns {{starts: BigInt64Array, weights: Int32Array, width: number}}
 */
export function taps(size, resized, first, count, filter, multiple = 1, colors = 1) {
  const windows =
    filter === "nearest"
      ? nearest(size, resized, first, count)
      : resampling(size, resized, first, count, FILTERS[filter]);
  const longest = Math.max(...windows.map((each) => each.values.length));
  const width = Math.ceil(longest / multiple) * multiple;
  const starts = new BigInt64Array(count);
  const weights = new Int32Array(count * width * colors);
  windows.forEach(({ start, values }, i) => {
    const from = Math.min(start, Math.max(size, width) - width);
    starts[i] = BigInt(from);
    values.forEach((value, j) => {
      const at = (i * width + start - from + j) * colors;
      weights.fill(value, at, at + colors);
    });
  });
  return { starts, weights, width };
}

/** Pillow adds the scale up pixel by pixel: so do we, with the same rounding. */
function nearest(size, resized, first, count) {
  const scale = size / resized;
  const windows = [];
  let place = scale * 0.5;
  for (let i = 0; i < first + count; i++) {
    if (i >= first) windows.push({ start: Math.min(Math.floor(place), size - 1), values: [ONE] });
    place += scale;
  }
  return windows;
}

function resampling(size, resized, first, count, { reach, at }) {
  const scale = size / resized;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const centre = (first + i + 0.5) * scale;
    const low = Math.max(Math.trunc(centre - reach * stretch + 0.5), 0);
    const high = Math.min(Math.trunc(centre + reach * stretch + 0.5), size);
    const values = [];
    let sum = 0;
    for (let place = low; place < high; place++) {
      values.push(at((place - centre + 0.5) * (1 / stretch)));
      sum += values[values.length - 1];
    }
    return { start: low, values: values.map((value) => fixed(sum === 0 ? value : value / sum)) };
  });
}

function fixed(value) {
  return Math.trunc(value * ONE + (value < 0 ? -0.5 : 0.5));
}
