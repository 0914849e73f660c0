// The model of this folder, run inside the browser by onnxruntime-web (WebAssembly).
//
// Everything is beside this file: `model.onnx`, `model.json` (what the model says of itself) and `onnxruntime/`.

import * as ort from "./onnxruntime/ort.js";

const here = (file) => new URL(file, import.meta.url).href;

// One thread: more of them need headers (COOP and COEP) that a plain static server does not send.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: here("onnxruntime/ort.wasm") };

export const ARRAYS = { UINT8: Uint8Array, FP32: Float32Array }; // by datatype

export const DEVICE = "this browser, WebAssembly";

/** What the model says of itself: the metadata of the ONNX file, and its golden answers. Fetched once. */
export const description = once(async () => (await fetched("model.json")).json());

/** Open the session, once; answers after this are not slowed by it. */
export const ready = once(async () => {
  const content = new Uint8Array(await (await fetched("model.onnx")).arrayBuffer());
  const opened = await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
  const { shape: [, channels, height, width], datatype } = (await description()).metadata.input;
  const black = new ARRAYS[datatype](channels * height * width);
  await evaluate(opened, black); // the first run prepares buffers; nobody should wait for it
  return opened;
});

/**
 * Run the network.
 * @param {Uint8Array | Float32Array} pixels N images, as the metadata `input` says.
 * @returns {Promise<{logits: Float32Array, probabilities: Float32Array}>} N x K each, row by row.
 */
export async function run(pixels) {
  return evaluate(await ready(), pixels);
}

/** Whether a picture is like those of the training, by its logits; null where the file has no threshold. The score is
 * that of `runtime/model/confidence.py`: the weighted energy, less the distance to the nearest class. */
export function known(logits, score) {
  if (!score) return null;
  const top = Math.max(...logits);
  const energy = top + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - top), 0));
  const distances = (score.means ?? []).map((mean, k) => Math.hypot(...score.factors[k].map(
    (row, i) => row.reduce((sum, factor, j) => sum + factor * (logits[i + j] - mean[i + j]), 0))));
  return score.energy_weight * energy - (distances.length ? Math.min(...distances) : 0) >= score.threshold;
}

async function evaluate(opened, pixels) {
  const { name, shape: [, channels, height, width], datatype } = (await description()).metadata.input;
  const batch = pixels.length / (channels * height * width);
  const image = new ort.Tensor(datatype === "FP32" ? "float32" : "uint8", pixels, [batch, channels, height, width]);
  const { logits, probabilities } = await opened.run({ [name]: image });
  return { logits: logits.data, probabilities: probabilities.data };
}

async function fetched(file) {
  const response = await fetch(here(file)).catch(() => null);
  if (!response?.ok) throw new Error(`${file} cannot be loaded (${response?.status ?? "no answer"}); serve the whole folder.`);
  return response;
}

/** Do the work at the first call and share its result; after a failure, the next call tries again. */
function once(work) {
  let result = null;
  return () => (result ??= work().catch((error) => { result = null; throw error; }));
}
