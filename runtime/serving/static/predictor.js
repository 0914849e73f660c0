// How the page has pictures named: by the server that it came from. Any module with these two functions can stand here,
// and nothing else of the page changes; `page.js`, `style.css` and `index.html` know no more than this:
//
//   models() -> Promise<[{name, accuracy, garment}]>
//       what can be chosen, the default first; accuracy is a share of 1, or null where nobody measured it; garment says
//       whether it takes a light garment on black, and not photographs of anything.
//   predict(picture: Blob, model: string) -> Promise<{
//       label,           the most probable class
//       probabilities,   [{label, probability}] of all classes, in the model's own order
//       pixels,          Uint8Array, rows of the levels that the network was given, of each channel in turn
//       shape,           [channels, height, width] of these
//       inverted,        whether light and dark were exchanged
//       sure,            false where the picture is unlike those that the network was trained on
//       warnings,        sentences for the reader
//       model, device,   names, as the reader should see them
//       milliseconds,    what this answer took
//   }>
//       picture is a whole file (PNG, JPEG, ...) as the reader gave it.
//
// Both reject with an Error whose message is one sentence for the reader.

export async function models() {
  const found = await asked("models");
  return found.map(({ name, accuracy, input }) => ({ name, accuracy, garment: input.preprocess.name === "garment" }));
}

export async function predict(picture, model) {
  const query = new URLSearchParams({ model, topk: "1000", pixels: "true" });
  const answer = await asked(`predict?${query}`, { method: "POST", body: picture });
  const channels = Array.isArray(answer.pixels[0][0]) ? answer.pixels : [answer.pixels];
  const ordered = answer.top.toSorted((a, b) => a.index - b.index);
  return {
    label: answer.label,
    probabilities: ordered.map(({ label, probability }) => ({ label, probability })),
    pixels: Uint8Array.from(channels.flat(2)),
    shape: [channels.length, channels[0].length, channels[0][0].length],
    inverted: answer.inverted,
    sure: answer.in_distribution !== false,
    warnings: answer.warnings ?? [],
    model: answer.model,
    device: answer.device,
    milliseconds: answer.milliseconds,
  };
}

async function asked(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer; is it still running?");
  }
  const document = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(document.error ?? `The server answered ${response.status}.`);
  return document;
}
