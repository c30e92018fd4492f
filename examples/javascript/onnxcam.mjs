// libonnxcam as WebAssembly, for Node and browsers:
//
//     const onnxcam = await Onnxcam.load(bytesOfOnnxcamWasm);
//     const { pixels } = overlay(onnxcam, map, 7, 7, { width, height, pixels: rgb });
//
// For the `data` of an ImageData, which has 4 channels, call `onnxcam_overlay_colors` likewise.

/** The library, with memory to put arrays into. */
export class Onnxcam {
  static async load(bytes) {
    const { instance } = await WebAssembly.instantiate(bytes, {});
    return new Onnxcam(instance.exports);
  }

  constructor(functions) {
    this.functions = functions;
    this.release();
  }

  /** Forget all that was placed. */
  release() {
    this.free = this.functions.__heap_base.value;
  }

  /** Room for so many bytes; its address. */
  reserve(size) {
    const address = (this.free + 15) & ~15;
    this.free = address + size;
    const { memory } = this.functions;
    const missing = this.free - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / 65536));
    return address;
  }

  /** Copy a typed array into the library's memory; its address. */
  place(array) {
    const address = this.reserve(array.byteLength);
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    new Uint8Array(this.functions.memory.buffer).set(bytes, address);
    return address;
  }

  /** A copy of what the library has written. */
  bytes(address, size) {
    return new Uint8Array(this.functions.memory.buffer.slice(address, address + size));
  }

  /** Throw an Error unless the code is 0. */
  check(code) {
    if (code === 0) return;
    const text = this.bytes(this.functions.onnxcam_error_text(code), 100);
    throw new Error(new TextDecoder().decode(text.subarray(0, text.indexOf(0))));
  }
}

/** JET over an RGB picture {width, height, pixels}: `(1 - alpha) * picture + alpha * colours`. */
export function overlay(onnxcam, map, mapWidth, mapHeight, picture, alpha = 0.4) {
  const { width, height, pixels } = picture;
  const sizes = [mapHeight, mapWidth, height, width, 3];
  const needed = onnxcam.functions.onnxcam_overlay_jet_scratch(...sizes);
  if (needed < 0) onnxcam.check(-needed);
  onnxcam.release();
  const values = onnxcam.place(map);
  const painted = onnxcam.place(pixels); // in place: picture and result are the same memory
  const scratch = onnxcam.reserve(needed);
  onnxcam.check(
    onnxcam.functions.onnxcam_overlay_jet(
      values, 0, 0, width, height, 0, painted, 3 * width, alpha, 0, 0, height, painted, 3 * width,
      scratch, needed, ...sizes,
    ),
  );
  return { width, height, pixels: onnxcam.bytes(painted, pixels.length) };
}
