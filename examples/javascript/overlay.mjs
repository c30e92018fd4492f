// Paint a heatmap over a picture, with WebAssembly:
//
//     node overlay.mjs onnxcam.wasm PICTURE.ppm MAP.f32 WIDTHxHEIGHT OUT.ppm
//
// MAP.f32 is the map row by row as raw float32, values 0 to 1.
// `onnxcam native build --target wasm32 -o DIR` writes onnxcam.wasm.
import { readFileSync, writeFileSync } from "node:fs";

import { Onnxcam, overlay } from "./onnxcam.mjs";

function readPpm(name) {
  const content = readFileSync(name);
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(content.subarray(0, 64).toString("latin1"));
  if (!head) throw new Error(`${name}: not a PPM (P6, 8 bits)`);
  const [width, height] = [Number(head[1]), Number(head[2])];
  const pixels = new Uint8Array(content.subarray(head[0].length));
  if (pixels.length === 0 || pixels.length !== 3 * width * height) {
    throw new Error(`${name}: not a whole PPM`);
  }
  return { width, height, pixels };
}

function readMap(name, width, height) {
  const content = readFileSync(name);
  if (content.length !== 4 * width * height) throw new Error(`${name}: not of the size given`);
  return new Float32Array(new Uint8Array(content).buffer);
}

async function main(library, pictureName, mapName, size, outName) {
  const [width, height] = size.split("x").map(Number);
  const onnxcam = await Onnxcam.load(readFileSync(library));
  const map = readMap(mapName, width, height);
  const painted = overlay(onnxcam, map, width, height, readPpm(pictureName));
  const head = Buffer.from(`P6\n${painted.width} ${painted.height}\n255\n`);
  writeFileSync(outName, Buffer.concat([head, painted.pixels]));
}

if (process.argv.length !== 7) {
  console.error("overlay: expected onnxcam.wasm PICTURE.ppm MAP.f32 WIDTHxHEIGHT OUT.ppm");
  process.exit(2);
}
try {
  await main(...process.argv.slice(2));
} catch (error) {
  console.error(`overlay: ${error.message}`);
  process.exit(2);
}
