// How the page has pictures named where there is no server: by the model beside it, inside the browser.
// The two functions are those that `page.js` knows; what each answers is written in the server's `predictor.js`.

import { decodeGrey } from "./decoding.js";
import { toPixels } from "./images.js";
import { DEVICE, description, known, ready, run } from "./model.js";

export async function models() {
  const { metadata } = await description();
  return [{ name: metadata.model, accuracy: metadata.accuracy?.top1 ?? null }];
}

export async function predict(picture) {
  const { metadata } = await description();
  const { array: pixels, inverted } = toPixels(await decodeGrey(picture));
  await ready();
  const started = performance.now();
  const answer = await run(pixels);
  const probabilities = [...answer.probabilities];
  const milliseconds = performance.now() - started;
  return {
    label: metadata.labels[probabilities.indexOf(Math.max(...probabilities))],
    probabilities: metadata.labels.map((label, index) => ({ label, probability: probabilities[index] })),
    pixels,
    inverted,
    known: known([...answer.logits], metadata.confidence?.score),
    model: metadata.model,
    device: DEVICE,
    milliseconds,
  };
}
