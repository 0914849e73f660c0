// Whether this browser gives the answers that the PyTorch network gave: `runtime parity`, for browsers.
//
// `golden.json` holds real pictures, PyTorch's answers, and how far an answer may be from them: the tolerance that was
// measured when the model was verified. All numbers are little-endian, base64.

import { ARRAYS, DEVICE, description, run } from "./model.js";

/**
 * Run the golden pictures and compare the answers.
 * @returns {Promise<{model, device, passed, images, flips, outputs}>} outputs: {name: {max_abs_diff, tolerance, passed}}.
 */
export async function measureParity() {
  const { metadata, golden: file } = await description();
  if (file === null) throw new Error(`${metadata.model} was exported without golden answers to compare with.`);
  const golden = await (await fetch(new URL(file, import.meta.url))).json();
  const found = await run(new ARRAYS[metadata.input.datatype](bytes(golden.pixels).buffer));
  const classes = metadata.labels.length;
  const outputs = {};
  for (const [name, { values, tolerance }] of Object.entries(golden.outputs)) {
    const expected = new Float32Array(bytes(values).buffer);
    const worst = expected.reduce((most, value, at) => Math.max(most, Math.abs(found[name][at] - value)), 0); // NaN stays
    outputs[name] = { max_abs_diff: worst, tolerance, passed: worst <= tolerance };
  }
  const named = decisions(found.logits, classes);
  const flips = decisions(new Float32Array(bytes(golden.outputs.logits.values).buffer), classes)
    .filter((index, picture) => index !== named[picture]).length;
  const passed = flips === 0 && Object.values(outputs).every((output) => output.passed);
  return { model: metadata.model, device: DEVICE, passed, images: named.length, flips, outputs };
}

function decisions(logits, classes) {
  return Array.from({ length: logits.length / classes }, (_, picture) => {
    const row = logits.subarray(picture * classes, (picture + 1) * classes);
    return row.indexOf(Math.max(...row));
  });
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}
