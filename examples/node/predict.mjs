// Name what is in pictures with onnxruntime-node: node predict.mjs MODEL.onnx PNG...
//
// Install with `npm install --ignore-scripts`. The pictures must be what the network takes: 28x28, grey, a light garment
// on black. For pictures of any kind, see the web layout's decoding.js and images.js (`zoo export --layout web`).

import { readFileSync } from "node:fs";
import { argv } from "node:process";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { PNG } from "pngjs";
import { readMetadata } from "./metadata.mjs";

const [model, ...pictures] = argv.slice(2);
const content = readFileSync(model);
const { input, labels } = readMetadata(content);
const [, channels, height, width] = input.shape;
const session = await InferenceSession.create(content);

const pixels = new Uint8Array(pictures.length * channels * height * width);
pictures.forEach((picture, index) => {
  const png = PNG.sync.read(readFileSync(picture)); // RGBA, whatever the file holds
  if (png.width !== width || png.height !== height) {
    throw new Error(`${picture} is ${png.width}x${png.height}; the network takes ${width}x${height}`);
  }
  for (let at = 0; at < width * height; at++) pixels[index * width * height + at] = png.data[4 * at]; // grey: red is all
});

const image = new Tensor("uint8", pixels, [pictures.length, channels, height, width]);
const { probabilities } = await session.run({ [input.name]: image }, ["probabilities"]);
if (probabilities.dims[1] !== labels.length) throw new Error(`${model} has not as many labels as outputs`);
pictures.forEach((picture, index) => {
  const row = probabilities.data.subarray(index * labels.length, (index + 1) * labels.length);
  const best = row.indexOf(Math.max(...row));
  console.log(`${picture}: ${labels[best]} ${(100 * row[best]).toFixed(1)}%`);
});
