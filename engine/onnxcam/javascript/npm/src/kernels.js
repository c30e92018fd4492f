// The kernels that Python runs on, as WebAssembly: memory to put arrays into, and calls.
import { OnnxcamError } from "./errors.js";
import { placeRgb } from "./pictures.js";
import { readBytes } from "./reading.js";

/** The kernels in `onnxcam.wasm`: its bytes, their address, or by default the file beside. */
export async function loadKernels(source = new URL("../onnxcam.wasm", import.meta.url)) {
  if (source instanceof Kernels) return source;
  const bytes = await readBytes(source, "the kernels");
  try {
    const { instance } = await WebAssembly.instantiate(bytes, {});
    return new Kernels(instance.exports);
  } catch (error) {
    throw new OnnxcamError(`the kernels can't be loaded: ${error.message}`, { cause: error });
  }
}

/**
 * The library. One call after the other: arrays lie in its memory from one `release` to the next.
 */
export class Kernels {
  constructor(functions) {
    this.functions = functions;
    this.base = functions.__heap_base.value;
    this.kept = null;
    this.release();
  }

  /** Forget all that was placed, except the picture that is kept. */
  release() {
    this.free = this.base;
  }

  /**
   * Keep a picture as RGB in the memory, in place of the one before: it is needed twice, for the
   * tensor and under the heatmap.
   *
   * @returns {{width: number, height: number, at: number}} itself `kept` as long as it is there.
   */
  keep(picture) {
    this.base = this.functions.__heap_base.value;
    this.kept = null;
    this.release();
    this.kept = placeRgb(this, picture);
    this.base = this.free;
    return this.kept;
  }

  /** Room for so many bytes; its address. */
  reserve(size) {
    const address = (this.free + 63) & ~63;
    this.free = address + size;
    const { memory } = this.functions;
    const missing = this.free - memory.buffer.byteLength;
    if (missing > 0) {
      try {
        memory.grow(Math.ceil(missing / 65536));
      } catch (error) {
        throw new OnnxcamError("the picture is too large for the memory here", { cause: error });
      }
    }
    return address;
  }

  /** Copy a typed array into the memory; its address. */
  place(array) {
    const address = this.reserve(array.byteLength);
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    new Uint8Array(this.functions.memory.buffer).set(bytes, address);
    return address;
  }

  /** What lies at an address, as a typed array; a view, good until anything else is placed. */
  view(Kind, address, length) {
    return new Kind(this.functions.memory.buffer, address, length);
  }

  /**
   * Call a kernel by its name without prefix.
   *
   * With `sizes` it is one that needs work space, which goes between `values` and them.
   *
   * @throws {OnnxcamError} the kernel refuses its arguments.
   */
  call(name, values, sizes = []) {
    const given = [...values];
    const scratchOf = this.functions[`onnxcam_${name}_scratch`];
    if (scratchOf) {
      const needed = scratchOf(...sizes);
      if (needed < 0) this.check(-needed);
      given.push(this.reserve(needed), needed);
    }
    this.check(this.functions[`onnxcam_${name}`](...given, ...sizes));
  }

  check(code) {
    if (code === 0) return;
    const address = this.functions.onnxcam_error_text(code);
    const bytes = new Uint8Array(this.functions.memory.buffer, address);
    throw new OnnxcamError(new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0))));
  }
}
