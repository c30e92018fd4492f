/** Every error that onnxcam raises on purpose: what was expected, what was found, what to do. */
export class OnnxcamError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = "OnnxcamError";
  }
}
