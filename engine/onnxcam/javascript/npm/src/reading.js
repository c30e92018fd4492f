// Bytes from wherever they are: memory, the network, and in Node a file.
import { OnnxcamError } from "./errors.js";

const IN_NODE = typeof process === "object" && process.versions?.node !== undefined;

/**
 * @param {Uint8Array | ArrayBuffer | URL | string} source bytes, an address, in Node also a path.
 * @param {string} what it is, for messages.
 * @returns {Promise<Uint8Array>}
 * @throws {OnnxcamError} there is nothing, it is empty, or it can't be read.
 */
export async function readBytes(source, what) {
  const bytes = await anyBytes(source, what);
  if (bytes.length === 0) throw new OnnxcamError(`${what} is empty (0 bytes)`);
  return bytes;
}

async function anyBytes(source, what) {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (typeof source !== "string" && !(source instanceof URL)) {
    throw new OnnxcamError(`${what}: expected bytes, an address or a path, got ${typeof source}`);
  }
  const isFile = source instanceof URL ? source.protocol === "file:" : !/^[a-z]+:/i.test(source);
  try {
    if (IN_NODE && isFile) {
      const { readFile } = await import(/* webpackIgnore: true */ "node:fs/promises");
      return new Uint8Array(await readFile(source));
    }
    const answer = await fetch(source);
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`.trim());
    return new Uint8Array(await answer.arrayBuffer());
  } catch (error) {
    throw new OnnxcamError(`${what}: cannot read ${source} (${error.message})`, { cause: error });
  }
}
