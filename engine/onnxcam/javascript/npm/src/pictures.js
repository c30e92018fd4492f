// A caller's picture, as RGB bytes row by row in the kernels' memory, and back.
import { OnnxcamError } from "./errors.js";

/**
 * Check any picture of `index.d.ts` and write it as RGB into the kernels' memory.
 *
 * Transparent pixels are laid over white, with Pillow's rounding, as Python's `open_picture` does.
 *
 * @returns {{width: number, height: number, at: number}} with the address.
 * @throws {OnnxcamError} sizes that don't fit together, or something else than bytes.
 */
export function placeRgb(kernels, picture) {
  const { width, height, data } = picture ?? {};
  const isBytes = data instanceof Uint8Array || data instanceof Uint8ClampedArray;
  if (!Number.isInteger(width) || !Number.isInteger(height) || !isBytes) {
    throw new OnnxcamError(
      "picture: expected {width, height, data} with the bytes of an RGBA, RGB or gray picture, " +
        "as ImageData has them; decode a file first",
    );
  }
  if (width < 1 || height < 1) throw new OnnxcamError(`picture: is zero-sized, ${width}x${height}`);
  const pixels = width * height;
  const write = WRITERS[data.length / pixels];
  if (write === undefined) {
    throw new OnnxcamError(
      `picture: ${width}x${height} pixels have ${4 * pixels} (RGBA), ${3 * pixels} (RGB) or ` +
        `${pixels} (gray) bytes, got ${data.length}`,
    );
  }
  const at = kernels.reserve(3 * pixels);
  write(data, kernels.view(Uint8Array, at, 3 * pixels));
  return { width, height, at };
}

// bytes a pixel -> how its RGB is written
const WRITERS = { 1: fromGray, 3: (data, rgb) => rgb.set(data), 4: withoutAlpha };

function fromGray(gray, rgb) {
  for (let i = 0; i < gray.length; i++) rgb.fill(gray[i], 3 * i, 3 * i + 3);
}

// Four pixels at a time, as three words of RGB and four of RGBA: half the time of single bytes
// (640x480: 0.4 ms, not 1.0). WebAssembly's machines are little-endian.

function withoutAlpha(rgba, rgb) {
  const pixels = rgba.length / 4;
  const whole = rgba.byteOffset % 4 === 0 ? pixels >> 2 : 0;
  const from = new Uint32Array(rgba.buffer, whole ? rgba.byteOffset : 0, 4 * whole);
  const to = new Uint32Array(rgb.buffer, rgb.byteOffset, 3 * whole);
  for (let i = 0, o = 0; i < from.length; i += 4, o += 3) {
    const a = from[i], b = from[i + 1], c = from[i + 2], d = from[i + 3];
    if ((a & b & c & d) >>> 24 !== 255) {
      blended(rgba, rgb, i, i + 4);
      continue;
    }
    to[o] = (a & 0xffffff) | (b << 24);
    to[o + 1] = ((b >>> 8) & 0xffff) | (c << 16);
    to[o + 2] = ((c >>> 16) & 0xff) | (d << 8);
  }
  blended(rgba, rgb, 4 * whole, pixels);
}

/** The pixels first..last, laid over white. */
function blended(rgba, rgb, first, last) {
  for (let i = first; i < last; i++) {
    for (let c = 0; c < 3; c++) rgb[3 * i + c] = overWhite(rgba[4 * i + c], rgba[4 * i + 3]);
  }
}

/** Pillow's alpha_composite over opaque white: weights of 7 more bits, then divided by 255. */
function overWhite(value, alpha) {
  const sum = alpha * 128 * value + (255 - alpha) * 128 * 255 + 0x80 * 128;
  return (sum + (sum >> 8)) >> 15;
}

/** RGB bytes, their start a multiple of 4, into the RGBA that a canvas takes. */
export function makeOpaque(rgb, rgba) {
  const pixels = rgb.length / 3;
  const whole = rgba.byteOffset % 4 === 0 ? pixels >> 2 : 0;
  const from = new Uint32Array(rgb.buffer, rgb.byteOffset, 3 * whole);
  const to = new Uint32Array(rgba.buffer, whole ? rgba.byteOffset : 0, 4 * whole);
  for (let i = 0, o = 0; i < from.length; i += 3, o += 4) {
    const a = from[i], b = from[i + 1], c = from[i + 2];
    to[o] = a | 0xff000000;
    to[o + 1] = (a >>> 24) | (b << 8) | 0xff000000;
    to[o + 2] = (b >>> 16) | (c << 16) | 0xff000000;
    to[o + 3] = (c >>> 8) | 0xff000000;
  }
  for (let i = 4 * whole; i < pixels; i++) {
    rgba.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
  }
}
