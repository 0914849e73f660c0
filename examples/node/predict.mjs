// Name what is in pictures with onnxruntime-node: node predict.mjs MODEL.onnx PNG...
//
// Install with `npm install --ignore-scripts`. The pictures must have the network's size; those of a garment network are
// grey, a light garment on black. For pictures of any kind, see the web layout's decoding.js, images.js and photo.js
// (`zoo export --layout web`).

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

const size = width * height;
const pixels = new Uint8Array(pictures.length * channels * size);
pictures.forEach((picture, index) => {
  const png = PNG.sync.read(readFileSync(picture)); // RGBA, whatever the file holds; of a grey one, red is all
  if (png.width !== width || png.height !== height) {
    throw new Error(`${picture} is ${png.width}x${png.height}; the network takes ${width}x${height}`);
  }
  for (let channel = 0; channel < channels; channel++) {
    const start = (index * channels + channel) * size;
    for (let at = 0; at < size; at++) pixels[start + at] = png.data[4 * at + channel];
  }
});

const [low, high] = input.range;
const shape = [pictures.length, channels, height, width];
const image = input.datatype === "UINT8"
  ? new Tensor("uint8", pixels, shape)
  : new Tensor("float32", Float32Array.from(pixels, (level) => (level * (high - low)) / 255 + low), shape);
const { probabilities } = await session.run({ [input.name]: image }, ["probabilities"]);
if (probabilities.dims[1] !== labels.length) throw new Error(`${model} has not as many labels as outputs`);
pictures.forEach((picture, index) => {
  const row = probabilities.data.subarray(index * labels.length, (index + 1) * labels.length);
  const best = row.indexOf(Math.max(...row));
  console.log(`${picture}: ${labels[best]} ${(100 * row[best]).toFixed(1)}%`);
});
