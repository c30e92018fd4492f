// The metadata of an ONNX file, which onnxruntime does not hand to JavaScript.
//
// An ONNX file is a protobuf message, ModelProto. Of its fields two matter here: 7, the graph, and
// 14, the metadata: one message for every pair, its field 1 the key and 2 the value. All others
// are stepped over by their lengths, which are never trusted beyond the end of the bytes.
import { OnnxcamError } from "./errors.js";

const [GRAPH, METADATA, KEY, VALUE] = [7, 14, 1, 2];
const [VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES] = [0, 1, 2, 5];

/**
 * The pairs of key and value in an ONNX file's metadata.
 *
 * @param {Uint8Array} bytes
 * @returns {Map<string, string>}
 * @throws {OnnxcamError} these are not the bytes of an ONNX file, or not all of them.
 */
export function readMetadata(bytes) {
  const found = new Map();
  let hasGraph = false;
  for (const [field, content] of fields(bytes)) {
    if (field === GRAPH) hasGraph = content instanceof Uint8Array;
    if (field === METADATA && content instanceof Uint8Array) {
      const pair = new Map(fields(content));
      found.set(text(pair.get(KEY)), text(pair.get(VALUE)));
    }
  }
  if (!hasGraph) throw broken();
  return found;
}

/** The number of every field and its content: bytes, or undefined for a number. */
function* fields(bytes) {
  let place = 0;

  function varint() {
    let value = 0;
    for (let shift = 0; shift < 64; shift += 7) {
      if (place >= bytes.length) throw broken();
      const byte = bytes[place++];
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
    throw broken();
  }

  function skip(length) {
    if (length > bytes.length - place) throw broken();
    place += length;
  }

  while (place < bytes.length) {
    const tag = varint();
    const [field, kind] = [Math.floor(tag / 8), tag % 8];
    if (field === 0) throw broken();
    if (kind === LENGTH) {
      const length = varint();
      const start = place;
      skip(length);
      yield [field, bytes.subarray(start, place)];
      continue;
    }
    if (kind === VARINT) varint();
    else if (kind === EIGHT_BYTES) skip(8);
    else if (kind === FOUR_BYTES) skip(4);
    else throw broken();
    yield [field, undefined];
  }
}

function text(content) {
  return content instanceof Uint8Array ? new TextDecoder().decode(content) : "";
}

function broken() {
  return new OnnxcamError("the model is not an ONNX file, or a truncated one");
}
