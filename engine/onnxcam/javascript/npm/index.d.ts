/** An error that onnxcam raises on purpose: what was expected, what was found, what to do. */
export class OnnxcamError extends Error {}

/** Bytes, their address, or in Node the path of a file. */
export type Source = Uint8Array | ArrayBuffer | URL | string;

/** What `onnxruntime-node` and `onnxruntime-web` export, as far as it is used here. */
export interface Runtime {
  InferenceSession: { create(bytes: Uint8Array, options?: any): Promise<any> };
  Tensor: new (type: any, data: any, dims: readonly number[]) => any;
}

export interface LoadOptions {
  /** `import ort from "onnxruntime-node"` or `import * as ort from "onnxruntime-web"`. */
  ort: Runtime;
  /** The kernels: `onnxcam.wasm`, by default the one in this package, or kernels loaded before. */
  wasm?: Source | Kernels;
  /** Handed to onnxruntime: providers, threads, ... */
  sessionOptions?: object;
}

/**
 * Load an explaining file, made by `onnxcam export`.
 *
 * Rejects with an OnnxcamError for a file that is no ONNX model, has no contract, or can't be run.
 */
export function load(model: Source, options: LoadOptions): Promise<Engine>;

/** An upright picture, row by row: 4 bytes a pixel (RGBA), 3 (RGB) or 1 (gray). As ImageData. */
export interface Picture {
  width: number;
  height: number;
  data: Uint8Array | Uint8ClampedArray;
}

/** RGBA, 4 bytes a pixel: the arguments of `new ImageData(data, width)`. */
export interface PaintedPicture {
  width: number;
  height: number;
  data: Uint8ClampedArray;
}

/** A map, row by row. */
export interface HeatMap {
  width: number;
  height: number;
  data: Float32Array;
}

/** Part of a picture, in its pixels. */
export interface Rectangle {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export type Method =
  | "gradcam"
  | "gradcam++"
  | "xgradcam"
  | "layercam"
  | "hirescam"
  | "gradcam-elementwise";

export type Blend = "alpha" | "additive" | "map-alpha" | "heat" | "contours";

export type Colormap =
  | "jet"
  | "jet-matplotlib"
  | "viridis"
  | "plasma"
  | "inferno"
  | "magma"
  | "turbo"
  | "hot"
  | "gray"
  | "coolwarm";

export interface ExplainOptions {
  /** Class index or name; -1 or nothing for the class with the highest score. */
  target?: number | string | null;
  /** One of the engine's `methods`; "gradcam" by default. */
  method?: Method | string;
  /** Which of the file's layers, by number or name; the first by default. */
  layer?: number | string;
  /** The model's further inputs, as tensors of the runtime. */
  inputs?: Record<string, any>;
}

export class Engine {
  private constructor();
  /** Class names in the model's order, or null. */
  readonly labels: readonly string[] | null;
  /** The names of the layers that the file explains. */
  readonly layers: readonly string[];
  /** The methods that go with the file; none where it holds the finished map. */
  readonly methods: readonly string[];
  /** Whether a class can be chosen; if not, the highest score is always explained. */
  readonly takesTarget: boolean;
  /** What the file says of itself. */
  readonly contract: any;
  /** The kernels, for `overlay`. */
  readonly kernels: Kernels;
  /**
   * Predict and explain one picture.
   *
   * Rejects with an OnnxcamError for a picture whose sizes don't fit, an unknown class or method, a
   * target out of range, or a run that fails. Calls may overlap; the model runs them in turn.
   */
  explain(picture: Picture, options?: ExplainOptions): Promise<Result>;
  /** Give back the runtime's memory. */
  release(): Promise<void>;
}

/** One class: what the model says of it. */
export interface Prediction {
  index: number;
  label: string | null;
  /** The WordNet synset id that the label begins with, or null. */
  synset: string | null;
  /** As the model gives it: a logit or a probability. */
  score: number;
  /** null where the model's output is neither logits nor probabilities. */
  probability: number | null;
  /** Whether this is the class that is explained. */
  chosen: boolean;
}

/** What the raw map holds, and why the map says nothing where it does. */
export interface Diagnosis {
  /** Of the finite values; NaN where there are none. */
  minimum: number;
  maximum: number;
  /** The share of values above zero. */
  positiveShare: number;
  reason:
    | "all_negative"
    | "zero_gradient"
    | "saturated"
    | "all_zero"
    | "nothing_positive"
    | "non_finite"
    | null;
  /** The reason for people; empty where the map is fine. */
  sentence: string;
}

export interface OverlayOptions {
  /** Weight of the colours, 0 to 1; by default 0.4 (map-alpha 0.7, contours 1). */
  alpha?: number;
  /** A name, or 256 RGB colours (768 bytes); "jet" by default. */
  colormap?: Colormap | Uint8Array;
  /** "alpha" by default. */
  blend?: Blend;
  /**
   * "diverging" paints the signed map, zero in the middle colour (alpha 0.5, "coolwarm"): what
   * speaks for the class and what against it.
   */
  preset?: "diverging";
  /** How the map is enlarged. */
  interpolation?: "bilinear" | "bicubic";
  /** Of the contours, between 0 and 1; by default 0.25, 0.5, 0.75 (diverging: -0.5 and 0.5). */
  levels?: number[];
  /** Of the contours, in pixels; 1.5 by default. */
  lineWidth?: number;
  /** Where to write, of the picture's size, as an ImageData; by default a new one. */
  out?: PaintedPicture;
  /** Where the map lies in the picture; by default all of it, or what the model saw. */
  rectangle?: Rectangle;
}

export class Result {
  private constructor();
  /** As it was given, not copied: `overlay` may read it again. */
  readonly picture: Picture;
  /** 0 to 1 at the layer's size; zero where `diagnosis` has a reason. */
  readonly map: HeatMap;
  /** The signed map before ReLU and scaling. */
  readonly raw: HeatMap;
  /** The part of the picture that the model saw. */
  readonly rectangle: Rectangle;
  /** The index of the class that is explained, its name, score and probability. */
  readonly target: number;
  readonly label: string | null;
  readonly score: number;
  readonly probability: number | null;
  readonly scores: Float32Array;
  readonly probabilities: Float64Array | null;
  readonly diagnosis: Diagnosis;
  readonly labels: readonly string[] | null;
  /** null where the file does not say how its map is made. */
  readonly method: string | null;
  readonly layer: string;
  /** The k best classes (10), best first; the explained one is added when it is not among them. */
  top(k?: number): Prediction[];
  /** The map at the picture's size, row by row; zero outside of `rectangle`. */
  heatmap(): Float32Array;
  /** The picture with its map painted over; the signed map for the preset "diverging". */
  overlay(options?: OverlayOptions): PaintedPicture;
  /** Which of `map` and `raw` these options show. */
  mapFor(options: OverlayOptions): HeatMap;
}

/** The kernels that Python runs on, as WebAssembly. */
export class Kernels {
  private constructor();
}

/** By default the kernels in this package. */
export function loadKernels(source?: Source | Kernels): Promise<Kernels>;

/** Paint any map over any picture. */
export function overlay(
  kernels: Kernels,
  map: HeatMap,
  picture: Picture,
  options?: OverlayOptions,
): PaintedPicture;

/** Name of a method: its name in print, and where it comes from. */
export const METHODS: Record<string, { title: string; paper: string }>;
/** Name of a blend: its usual alpha. */
export const BLENDS: Record<string, number>;
/** Name of a colormap: its 256 RGB colours. */
export const COLORMAPS: Record<string, Uint8Array>;
