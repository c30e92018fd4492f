// Explaining ONNX files in JavaScript: index.d.ts says what there is, README.md how to begin.
export { load, Engine } from "./src/engine.js";
export { OnnxcamError } from "./src/errors.js";
export { Kernels, loadKernels } from "./src/kernels.js";
export { overlay } from "./src/painting.js";
export { Result } from "./src/result.js";
export { BLENDS, COLORMAPS, METHODS } from "./src/tables.js";
