// Predict and explain a picture in Node:
//
//     onnxcam javascript -o onnxcam && npm install
//     node explain.mjs net.cam.onnx PICTURE.ppm OUT.ppm [CLASS]
//
// PPM keeps the example free of decoders; with the npm package sharp, for one, a picture is
//     const { data, info } = await sharp(name).rotate().ensureAlpha().raw()
//       .toBuffer({ resolveWithObject: true });
//     const picture = { width: info.width, height: info.height, data };
import { readFileSync, writeFileSync } from "node:fs";

import { load } from "onnxcam";
import ort from "onnxruntime-node";

function readPpm(name) {
  const content = readFileSync(name);
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(content.subarray(0, 64).toString("latin1"));
  if (!head) throw new Error(`${name}: not a PPM (P6, 8 bits)`);
  const [width, height] = [Number(head[1]), Number(head[2])];
  const data = new Uint8Array(content.subarray(head[0].length));
  if (data.length === 0 || data.length !== 3 * width * height) {
    throw new Error(`${name}: not a whole PPM`);
  }
  return { width, height, data };
}

function writePpm(name, { width, height, data }) {
  const rgb = Buffer.from(data.filter((_, i) => i % 4 < 3));
  writeFileSync(name, Buffer.concat([Buffer.from(`P6\n${width} ${height}\n255\n`), rgb]));
}

async function main(model, pictureName, outName, target) {
  const engine = await load(model, { ort });
  const result = await engine.explain(readPpm(pictureName), { target });
  for (const { index, label, probability, chosen } of result.top(5)) {
    const percent = probability === null ? "" : `${(100 * probability).toFixed(2)} %`;
    console.log(chosen ? "*" : " ", index, label ?? "", percent);
  }
  if (result.diagnosis.reason) console.log(`the map is empty: ${result.diagnosis.sentence}`);
  writePpm(outName, result.overlay());
}

if (process.argv.length < 5 || process.argv.length > 6) {
  console.error("explain: expected MODEL.onnx PICTURE.ppm OUT.ppm [CLASS]");
  process.exit(2);
}
try {
  await main(...process.argv.slice(2));
} catch (error) {
  console.error(`explain: ${error.message}`);
  process.exit(2);
}
