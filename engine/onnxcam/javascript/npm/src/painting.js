// Heatmap over picture, byte for byte as `onnxcam.overlay` paints in Python.
import { OnnxcamError } from "./errors.js";
import { makeOpaque, placeRgb } from "./pictures.js";
import { BLENDS, COLORMAPS } from "./tables.js";

const CODES = { alpha: 0, additive: 1, "map-alpha": 2, heat: 3 };

/**
 * Paint a map over a picture; see index.d.ts.
 *
 * @param {Kernels} kernels
 * @param {{width, height, data: Float32Array}} map values of which 0 to 1 is shown; signed ones
 *   for the preset "diverging".
 * @param {{width, height, data}} picture RGBA, RGB or gray, or what the kernels keep.
 * @param {object} options alpha, colormap, blend, preset, interpolation, levels, lineWidth,
 *   rectangle, out.
 * @returns {{width, height, data: Uint8ClampedArray}} RGBA.
 */
export function overlay(kernels, map, picture, options = {}) {
  checkMap(map);
  kernels.release();
  const isKept = picture !== null && picture === kernels.kept;
  const { width, height, at } = isKept ? picture : placeRgb(kernels, picture);
  const out = outOf(options.out, width, height);
  const diverging = options.preset === "diverging";
  if (options.preset !== undefined && !diverging) {
    throw new OnnxcamError(`preset '${options.preset}' is unknown; known is diverging`);
  }
  const blend = options.blend ?? "alpha";
  if (!Object.hasOwn(BLENDS, blend)) throw unknown("blend", blend, BLENDS);
  const alpha = options.alpha ?? (diverging && blend === "alpha" ? 0.5 : BLENDS[blend]);
  const colormap = options.colormap ?? (diverging ? "coolwarm" : "jet");
  const background = diverging ? 0.5 : 0;
  if (!(alpha >= 0 && alpha <= 1)) {
    throw new OnnxcamError(`alpha: expected a number, 0 to 1, got ${alpha}`);
  }
  const interpolation = options.interpolation ?? "bilinear";
  if (!["bilinear", "bicubic"].includes(interpolation)) {
    throw new OnnxcamError(`interpolation: expected bilinear or bicubic, got ${interpolation}`);
  }
  const bicubic = interpolation === "bicubic" ? 1 : 0;
  const { left, top, right, bottom } = options.rectangle ?? {
    left: 0, top: 0, right: width, bottom: height,
  };
  const shown = diverging ? centred(map.data) : map.data;
  const values = [kernels.place(shown), left, top, right, bottom];
  // What is kept stays as it is; another picture and the result may be the same memory.
  const painted = isKept ? kernels.reserve(3 * width * height) : at;
  const [source, target] = [[at, 3 * width], [painted, 3 * width]];
  const sizes = [map.height, map.width, height, width, 3];
  const rows = [0, height];
  if (blend === "contours") {
    const lines = linesOf(options.levels, diverging);
    const given = [
      ...values, ...source, kernels.place(tableOf(colormap)), alpha, kernels.place(lines),
      options.lineWidth ?? 1.5, 1, bicubic, ...rows, ...target,
    ];
    kernels.call("overlay_contours", given, [...sizes, lines.length, 3]);
  } else if (colormap === "jet" && blend === "alpha" && alpha <= 0.5 && !bicubic) {
    const given = [...values, background, ...source, alpha, 0, ...rows, ...target];
    kernels.call("overlay_jet", given, sizes);
  } else {
    const table = kernels.place(tableOf(colormap));
    const given = [
      ...values, background, ...source, table, alpha, CODES[blend], bicubic, ...rows, ...target,
    ];
    kernels.call("overlay_colors", given, [...sizes, 3]);
  }
  const rgb = kernels.view(Uint8Array, painted, 3 * width * height);
  makeOpaque(rgb, out.data);
  return out;
}

/** A map enlarged bilinearly into a rectangle of a picture; zero outside. */
export function enlarged(kernels, map, { width, height }, { left, top, right, bottom }) {
  checkMap(map);
  kernels.release();
  const given = [kernels.place(map.data), left, top, right, bottom];
  const out = kernels.reserve(4 * width * height);
  const sizes = [map.height, map.width, height, width];
  kernels.call("resize_map_bilinear", [...given, out], sizes);
  return kernels.view(Float32Array, out, width * height).slice();
}

/** The 256 colours of a colormap, uint8 [256, 3]. */
function tableOf(colormap) {
  if (colormap instanceof Uint8Array && colormap.length === 768) return colormap;
  if (Object.hasOwn(COLORMAPS, colormap)) return COLORMAPS[colormap];
  throw unknown("colormap", colormap, COLORMAPS);
}

/** Where the result goes: a new picture, or the caller's. */
function outOf(out, width, height) {
  if (out === undefined) {
    return { width, height, data: new Uint8ClampedArray(4 * width * height) };
  }
  const fits = out?.width === width && out.height === height;
  if (fits && out.data instanceof Uint8ClampedArray && out.data.length === 4 * width * height) {
    return out;
  }
  throw new OnnxcamError(`out: expected an ImageData, or the like, of ${width}x${height} pixels`);
}

/** Divided by the largest magnitude, then 0 at 0.5; in float32, as Python does. */
function centred(values) {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (largest === 0) return values.map(() => 0.5);
  return values.map((value) => 0.5 + 0.5 * Math.fround(value / largest));
}

function linesOf(given, diverging) {
  const levels = given ?? (diverging ? [-0.5, 0.5] : [0.25, 0.5, 0.75]);
  const low = diverging ? -1 : 0;
  const fits = Array.isArray(levels) && levels.length > 0 && levels.every((x) => x > low && x < 1);
  if (fits) return Float32Array.from(levels, (x) => (diverging ? 0.5 + 0.5 * x : x));
  throw new OnnxcamError(`levels: expected a list of numbers between ${low} and 1, got ${levels}`);
}

function checkMap({ width, height, data } = {}) {
  if (!(data instanceof Float32Array) || data.length !== width * height || data.length === 0) {
    throw new OnnxcamError("map: expected {width, height, data} with a Float32Array of that size");
  }
}

function unknown(what, name, table) {
  const known = Object.keys(table).join(", ");
  return new OnnxcamError(`${what} '${name}' is unknown; known are ${known}`);
}
