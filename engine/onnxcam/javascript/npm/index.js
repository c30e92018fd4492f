// Explaining ONNX files in JavaScript: see index.d.ts for what there is, README.md for how to begin.
export { load, Engine } from "./src/engine.js";
export { OnnxcamError } from "./src/errors.js";
export { Kernels, loadKernels } from "./src/kernels.js";
export { overlay } from "./src/painting.js";
export { Result } from "./src/result.js";
export { BLENDS, COLORMAPS, METHODS } from "./src/tables.js";
