// How the page has pictures named: by the server that it came from. Any module with these two functions can stand here,
// and nothing else of the page changes; `page.js`, `style.css` and `index.html` know no more than this:
//
//   models() -> Promise<[{name, accuracy}]>
//       what can be chosen, the default first; accuracy is a share of 1, or null where nobody measured it.
//   predict(picture: Blob, model: string) -> Promise<{
//       label,           the most probable class
//       probabilities,   [{label, probability}] of all classes, in the model's own order
//       known,           whether it is like the pictures of the training; null where the model cannot tell
//       pixels,          Uint8Array(784), rows of the 28x28 levels that the network was given
//       inverted,        whether light and dark were exchanged
//       model, device,   names, as the reader should see them
//       milliseconds,    what this answer took
//   }>
//       picture is a whole file (PNG, JPEG, ...) as the reader gave it.
//
// Both reject with an Error whose message is one sentence for the reader.

export async function models() {
  return (await asked("models")).map(({ name, accuracy }) => ({ name, accuracy }));
}

export async function predict(picture, model) {
  const query = new URLSearchParams({ model, topk: "1000", pixels: "true" });
  const answer = await asked(`predict?${query}`, { method: "POST", body: picture });
  const ordered = answer.top.toSorted((a, b) => a.index - b.index);
  return {
    label: answer.label,
    probabilities: ordered.map(({ label, probability }) => ({ label, probability })),
    known: answer.in_distribution ?? null,
    pixels: Uint8Array.from(answer.pixels.flat()),
    inverted: answer.inverted,
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
