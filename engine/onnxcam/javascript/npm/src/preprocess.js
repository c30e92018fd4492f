// From a picture to the model's input, and the part of the picture that the model saw.
import { OnnxcamError } from "./errors.js";
import { halfOf } from "./halves.js";
import { taps } from "./taps.js";

// dtype -> its array, its limits where it holds whole numbers, onnxruntime's name
const DTYPES = {
  float32: [Float32Array],
  float64: [Float64Array],
  float16: [Uint16Array],
  uint8: [Uint8Array, 0, 255],
  int8: [Int8Array, -128, 127],
  uint16: [Uint16Array, 0, 65535],
  int16: [Int16Array, -32768, 32767],
  int32: [Int32Array, -(2 ** 31), 2 ** 31 - 1],
};
// Without antialiasing the whole picture is resized before it is cropped.
const MOST_RESIZED_PIXELS = 2 ** 27;
// What the kernels accept; otherwise only the crop is computed.
const MOST_RESIZED_SIDE = 1e9;
const MOST_TAPS_KEPT = 16;

/** From pictures to tensors, by one preprocessing of a contract. */
export class Preparation {
  #spare = null;

  constructor(kernels, preprocess, layout, dtype) {
    if (!Object.hasOwn(DTYPES, dtype)) {
      throw new OnnxcamError(`a model with an input of ${dtype} can't be given pictures here`);
    }
    this.kernels = kernels;
    this.preprocess = preprocess;
    this.dtype = dtype;
    this.direct = dtype === "float32" || dtype === "uint8";
    this.channelsLast = layout === "NHWC";
    this.tables = tablesOf(preprocess, dtype);
    this.kept = new Map();
    const [h, w] = preprocess.size;
    const c = preprocess.channels;
    this.shape = this.channelsLast ? [h, w, c] : [c, h, w];
  }

  /**
   * Resize, crop, normalise and lay out one picture: Pillow's pixels, byte for byte.
   *
   * @param {object} picture of the caller; the kernels keep it.
   * @returns {{values: TypedArray, rectangle: object, kept: object}} the values of `shape`, the
   *   part of the picture that they show, in its pixels, and the picture that is kept.
   */
  tensorOf(picture) {
    const { kernels, preprocess } = this;
    const { color, channels, resize, size } = preprocess;
    const kept = kernels.keep(picture);
    let window = windowOf(kept.width, kept.height, preprocess);
    if (Math.max(window.width, window.height) > MOST_RESIZED_SIDE) {
      throw this.#tooNarrow(kept);
    }
    const rectangle = seen(kept, window, size);
    let source = color === "GRAY" ? this.#gray(kept) : kept;
    if (resize.filter !== "nearest" && !resize.antialias) {
      source = this.#resizedWhole(source, window);
      window = { ...window, width: source.width, height: source.height };
    }
    const Kind = this.direct ? DTYPES[this.dtype][0] : Uint8Array;
    const table = this.direct ? this.tables : bytesThemselves(channels);
    const bytes = this.#resampled(source, window, table, Kind);
    return { values: this.direct ? bytes : this.#through(bytes), rectangle, kept };
  }

  #gray({ width, height, at }) {
    const gray = this.kernels.reserve(width * height);
    this.kernels.call("gray_of", [at, 0, gray], [height, width]);
    return { width, height, at: gray };
  }

  #resizedWhole({ width, height, at }, window) {
    if (width === window.width && height === window.height) return { width, height, at };
    const pixels = window.width * window.height;
    if (pixels > Math.max(MOST_RESIZED_PIXELS, width * height)) {
      throw this.#tooNarrow({ width, height });
    }
    const { channels, resize } = this.preprocess;
    const resized = this.kernels.reserve(pixels * channels);
    const sizes = [height, width, channels, window.height, window.width];
    this.kernels.call(`resize_picture_${resize.filter}`, [at, resized], sizes);
    return { width: window.width, height: window.height, at: resized };
  }

  #tooNarrow({ width, height }) {
    const { shorterSide } = this.preprocess.resize;
    return new OnnxcamError(
      `picture of ${width}x${height} pixels: too narrow to scale its shorter side to ` +
        `${shorterSide}`,
    );
  }

  #resampled({ width, height, at }, window, table, Kind) {
    const { kernels } = this;
    const { channels, color, resize } = this.preprocess;
    const [h, w] = this.preprocess.size;
    const rows = this.#taps(height, window.height, window.top, h, resize.filter, 1);
    const columns = this.#taps(width, window.width, window.left, w, resize.filter, channels);
    const wide = Math.max(width, columns.width);
    const picture = wide > width ? this.#padded(at, width * channels, wide * channels, height) : at;
    const out = kernels.reserve(channels * h * w * Kind.BYTES_PER_ELEMENT);
    const name = Kind === Float32Array ? "float32" : "uint8";
    kernels.call(
      `picture_to_${name}`,
      [
        picture, kernels.place(columns.starts), kernels.place(columns.weights),
        kernels.place(rows.starts), kernels.place(rows.weights), kernels.place(table),
        this.channelsLast ? 1 : 0, color === "BGR" ? 1 : 0, out,
      ],
      [height, wide * channels, w, columns.width * channels, h, rows.width, channels],
    );
    const values = this.#spare ?? new Kind(channels * h * w);
    this.#spare = null;
    values.set(kernels.view(Kind, out, values.length));
    return values;
  }

  /** Take back the values of a tensor that nobody needs any more, for the next one. */
  takeBack(values) {
    if (this.direct) this.#spare = values; // a new array each time costs as much as filling it
  }

  /** Rows with zeros behind them, for pictures a few columns wide. */
  #padded(at, rowBytes, wideBytes, height) {
    const padded = this.kernels.reserve(wideBytes * height);
    const bytes = this.kernels.view(Uint8Array, 0, padded + wideBytes * height);
    bytes.fill(0, padded);
    for (let y = 0; y < height; y++) {
      bytes.copyWithin(padded + y * wideBytes, at + y * rowBytes, at + (y + 1) * rowBytes);
    }
    return padded;
  }

  /** Taps, made once for pictures of one size. */
  #taps(...question) {
    const key = question.join();
    if (!this.kept.has(key)) {
      if (this.kept.size >= MOST_TAPS_KEPT) this.kept.delete(this.kept.keys().next().value);
      this.kept.set(key, taps(this.kernels, ...question));
    }
    return this.kept.get(key);
  }

  #through(bytes) {
    const values = new DTYPES[this.dtype][0](bytes.length);
    const { channels } = this.preprocess;
    const plane = bytes.length / channels;
    for (let i = 0; i < bytes.length; i++) {
      const c = this.channelsLast ? i % channels : Math.floor(i / plane);
      values[i] = this.tables[256 * c + bytes[i]];
    }
    return values;
  }
}

/** What of a resized picture the model sees: its size in pixels, and where the crop begins. */
function windowOf(width, height, { resize, size: [h, w] }) {
  if (resize.mode === "stretch") return { width: w, height: h, left: 0, top: 0 };
  const shorter = resize.shorterSide;
  const longer = Math.trunc((shorter * Math.max(width, height)) / Math.min(width, height));
  const [fullHeight, fullWidth] = height > width ? [longer, shorter] : [shorter, longer];
  return {
    width: fullWidth,
    height: fullHeight,
    left: roundHalfEven((fullWidth - w) / 2),
    top: roundHalfEven((fullHeight - h) / 2),
  };
}

function seen({ width, height }, window, [h, w]) {
  return {
    left: (window.left * width) / window.width,
    top: (window.top * height) / window.height,
    right: ((window.left + w) * width) / window.width,
    bottom: ((window.top + h) * height) / window.height,
  };
}

/** The value of every pixel value in every channel of the tensor, [C, 256]. */
function tablesOf({ channels, scale, mean, std }, dtype) {
  const [Kind, lowest, highest] = DTYPES[dtype];
  const tables = new Kind(channels * 256);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < 256; i++) {
      let value = (i * scale - mean[c]) / std[c];
      if (lowest !== undefined) {
        value = Math.min(Math.max(roundHalfEven(value), lowest), highest);
      }
      tables[256 * c + i] = dtype === "float16" ? halfOf(value) : value;
    }
  }
  return tables;
}

function bytesThemselves(channels) {
  return Uint8Array.from({ length: channels * 256 }, (_, i) => i % 256);
}

function roundHalfEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}
