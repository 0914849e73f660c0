// How the page has pictures named where there is no server: by the model beside it, inside the browser.
// The two functions are those that `page.js` knows; what each answers is written in the server's `predictor.js`.

import { decodeColour, decodeGrey } from "./decoding.js";
import { toPixels } from "./images.js";
import { DEVICE, description, known, ready, run } from "./model.js";
import { toPhoto } from "./photo.js";

export async function models() {
  const { metadata } = await description();
  return [{ name: metadata.model, accuracy: metadata.accuracy?.top1 ?? null, garment: isGarment(metadata.input) }];
}

export async function predict(picture) {
  const { metadata } = await description();
  const { input } = metadata;
  const { array: pixels, inverted, warnings } = isGarment(input)
    ? toPixels(await decodeGrey(picture))
    : { array: toPhoto(await decodeColour(picture), input), inverted: false, warnings: [] };
  await ready();
  const started = performance.now();
  const answer = await run(inRange(pixels, input));
  const probabilities = [...answer.probabilities];
  const milliseconds = performance.now() - started;
  return {
    label: metadata.labels[probabilities.indexOf(Math.max(...probabilities))],
    probabilities: metadata.labels.map((label, index) => ({ label, probability: probabilities[index] })),
    pixels,
    shape: input.shape.slice(1),
    inverted,
    sure: known([...answer.logits], metadata.confidence?.score) !== false,
    warnings,
    model: metadata.model,
    device: DEVICE,
    milliseconds,
  };
}

/** A file of format 1 is always a garment's, and does not say so. */
function isGarment(input) {
  return input.preprocess?.name !== "photo";
}

/** Levels of 0 to 255 in the input's own type and range. */
function inRange(levels, { datatype, range: [low, high] }) {
  return datatype === "UINT8" ? levels : Float32Array.from(levels, (level) => (level * (high - low)) / 255 + low);
}
