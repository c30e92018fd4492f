// A caller's picture, as RGB bytes row by row.
import { OnnxcamError } from "./errors.js";

/**
 * Any picture of `index.d.ts` as RGB.
 *
 * Transparent pixels are laid over white, with Pillow's rounding, as Python's `open_picture` does.
 *
 * @returns {{width: number, height: number, data: Uint8Array}}
 * @throws {OnnxcamError} sizes that don't fit together, or something else than bytes.
 */
export function rgbOf(picture) {
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
  const channels = data.length / pixels;
  if (channels === 3) return { width, height, data };
  if (channels === 4) return { width, height, data: withoutAlpha(data, pixels) };
  if (channels === 1) {
    const rgb = new Uint8Array(3 * pixels);
    for (let i = 0; i < pixels; i++) rgb.fill(data[i], 3 * i, 3 * i + 3);
    return { width, height, data: rgb };
  }
  throw new OnnxcamError(
    `picture: ${width}x${height} pixels have ${4 * pixels} (RGBA), ${3 * pixels} (RGB) or ` +
      `${pixels} (gray) bytes, got ${data.length}`,
  );
}

function withoutAlpha(rgba, pixels) {
  const rgb = new Uint8Array(3 * pixels);
  for (let i = 0, to = 0; i < 4 * pixels; i += 4) {
    const alpha = rgba[i + 3];
    if (alpha === 255) {
      rgb[to++] = rgba[i];
      rgb[to++] = rgba[i + 1];
      rgb[to++] = rgba[i + 2];
      continue;
    }
    for (let c = 0; c < 3; c++) rgb[to++] = overWhite(rgba[i + c], alpha);
  }
  return rgb;
}

/** Pillow's alpha_composite over opaque white: weights of 7 more bits, then divided by 255. */
function overWhite(value, alpha) {
  const sum = alpha * 128 * value + (255 - alpha) * 128 * 255 + 0x80 * 128;
  return (sum + (sum >> 8)) >> 15;
}

/** RGB bytes as the RGBA that a canvas takes. */
export function opaque(rgb) {
  const rgba = new Uint8ClampedArray((rgb.length / 3) * 4);
  for (let i = 0, to = 0; i < rgb.length; i += 3, to += 4) {
    rgba[to] = rgb[i];
    rgba[to + 1] = rgb[i + 1];
    rgba[to + 2] = rgb[i + 2];
    rgba[to + 3] = 255;
  }
  return rgba;
}
