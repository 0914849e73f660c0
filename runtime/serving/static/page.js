// The page: takes a picture from the reader, has it named, shows the answer. It knows no network and no server: both are
// behind `predictor.js`, of which there are several with the same two functions. See the one beside this file.

import { models, predict } from "./predictor.js";

const INK = 48; // width of the drawing pen, in canvas pixels: 2.4 of the 28 that the network sees
const TOP = 3; // classes that stand out; of many, the only ones shown
const FEW = 20; // classes that are shown at once; where there are more, they can be searched
const EXAMPLES = [
  ["ankle-boot", "Ankle boot"], ["t-shirt", "T-shirt/top"], ["trouser", "Trouser"], ["pullover", "Pullover"],
  ["dress", "Dress"], ["coat", "Coat"], ["sandal", "Sandal"], ["shirt", "Shirt"], ["sneaker", "Sneaker"], ["bag", "Bag"],
];

const element = (id) => document.getElementById(id);
const pad = element("pad");
const pen = pad.getContext("2d");
const model = element("model");
const garments = new Set(); // the models for garments

let given = null; // what was asked about last: a Blob, or the drawing
let asked = 0; // counts questions, so that a late answer does not replace a newer one
let pending = false;
let shown = []; // the classes of the last answer, most probable first

// What to ask

async function ask(picture) {
  given = picture;
  const turn = ++asked;
  pending = true;
  try {
    const answer = await predict(picture, model.value);
    if (turn === asked) showAnswer(answer);
  } catch (error) {
    if (turn === asked) showError(error.message);
  } finally {
    if (turn === asked) pending = false;
  }
}

async function take(picture, name) {
  closeCamera();
  forgetDrawing();
  press(null);
  const turn = asked;
  const asking = ask(picture);
  try {
    const bitmap = await createImageBitmap(picture);
    if (turn + 1 === asked) showPicture(bitmap);
  } catch {
    // The network's side reads more formats than a browser shows.
    if (turn + 1 === asked) showName(name);
  }
  pad.setAttribute("aria-label", name);
  await asking;
}

async function takeExample(button, name, label) {
  const turn = ++asked;
  const response = await fetch(`examples/${name}.png`);
  const picture = await response.blob();
  if (turn !== asked) return; // the reader has gone on to another picture
  const taken = take(picture, `Example: ${label}`);
  press(button);
  await taken;
}

// What the reader sees

function showAnswer(answer) {
  element("error").hidden = true;
  element("label").textContent = answer.sure ? answer.label : "Not sure";
  const warnings = answer.sure ? answer.warnings : [`The closest is ${answer.label}.`, ...answer.warnings];
  element("warnings").replaceChildren(...warnings.map((sentence) => {
    const item = document.createElement("li");
    item.textContent = sentence;
    return item;
  }));
  shown = answer.probabilities.toSorted((a, b) => b.probability - a.probability);
  showBars();
  showPixels(answer.pixels, answer.shape);
  const [, height, width] = answer.shape;
  element("seen").setAttribute("aria-label", `The picture at ${width} by ${height} pixels, taken for: ${answer.label}`);
  const what = garments.has(answer.model) ? "a light garment on black" : "as the network gets them";
  element("how").textContent =
    `${width} × ${height} pixels, ${what}` + (answer.inverted ? "; light and dark were exchanged." : ".");
  element("where").textContent = `${answer.model} on ${answer.device}, ${answer.milliseconds.toFixed(1)} ms`;
}

/** The most probable classes; of more than FEW, those that the reader searches for. */
function showBars() {
  const search = element("search");
  search.hidden = shown.length <= FEW;
  search.placeholder = `Find one of ${shown.length} classes`;
  search.setAttribute("aria-label", search.placeholder);
  const wanted = search.hidden ? "" : search.value.trim().toLowerCase();
  const found = wanted ? shown.filter(({ label }) => label.toLowerCase().includes(wanted)) : shown;
  const bars = found.slice(0, wanted || search.hidden ? FEW : TOP);
  const rows = bars.map(({ label, probability }) => {
    const row = document.createElement("tr");
    row.className = shown.slice(0, TOP).some((first) => first.label === label) ? "top" : "";
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = head.title = label;
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.append(document.createElement("span"));
    const middle = document.createElement("td");
    middle.append(bar);
    const share = document.createElement("td");
    share.textContent = `${(100 * probability).toFixed(1)} %`;
    row.append(head, middle, share);
    return row;
  });
  const body = element("bars").tBodies[0];
  const before = [...body.querySelectorAll(".bar span")].map((bar) => bar.style.width);
  body.replaceChildren(...rows);
  const spans = body.querySelectorAll(".bar span");
  spans.forEach((span, index) => { span.style.width = before[index] || "0"; });
  body.getBoundingClientRect(); // lay out at the old widths, so that the new ones are animated
  spans.forEach((span, index) => { span.style.width = `${100 * bars[index].probability}%`; });
}

element("search").addEventListener("input", showBars);

function showPixels(pixels, [channels, height, width]) {
  const seen = element("seen");
  [seen.width, seen.height] = [width, height];
  const context = seen.getContext("2d");
  const image = context.createImageData(width, height);
  const size = width * height;
  for (let at = 0; at < size; at++) {
    for (const channel of [0, 1, 2]) image.data[4 * at + channel] = pixels[(channel % channels) * size + at];
    image.data[4 * at + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

function showError(sentence) {
  element("error").textContent = sentence;
  element("error").hidden = false;
  element("label").textContent = "\u2014";
  element("warnings").replaceChildren();
  shown = [];
  showBars();
  element("where").textContent = "";
  blank(element("seen"));
  element("seen").setAttribute("aria-label", "Nothing yet");
}

function showPicture(bitmap) {
  blank(pad);
  pad.classList.add("picture");
  const scale = Math.min(pad.width / bitmap.width, pad.height / bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  pen.imageSmoothingEnabled = scale < 4; // an enlarged data set image stays pixels
  pen.drawImage(bitmap, (pad.width - width) / 2, (pad.height - height) / 2, width, height);
  bitmap.close();
}

function showName(name) {
  blank(pad);
  pen.fillStyle = "#a09d96";
  pen.font = "32px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.fillText(name, pad.width / 2, pad.height / 2, pad.width - 40);
}

function blank(canvas) {
  canvas.classList.remove("picture");
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}

function press(button) {
  for (const other of element("examples").querySelectorAll("button")) {
    other.setAttribute("aria-pressed", String(other === button));
  }
}

// Drawing: white on black, as the data set is

let drawn = false;
let stroke = null;

function forgetDrawing() {
  drawn = false;
  stroke = null;
}

function place(event) {
  const box = pad.getBoundingClientRect();
  return [((event.clientX - box.left) * pad.width) / box.width, ((event.clientY - box.top) * pad.height) / box.height];
}

function askAboutDrawing() {
  const page = document.createElement("canvas");
  [page.width, page.height] = [pad.width, pad.height];
  const context = page.getContext("2d");
  context.fillRect(0, 0, page.width, page.height);
  context.drawImage(pad, 0, 0);
  page.toBlob((picture) => { if (drawn) ask(picture); }, "image/png");
}

pad.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  if (!drawn) {
    asked += 1; // what is being answered is about a picture that is gone
    pending = false;
    blank(pad);
    press(null);
    drawn = true;
    pad.setAttribute("aria-label", "Your drawing");
  }
  try { pad.setPointerCapture(event.pointerId); } catch { /* the pointer has been lifted already */ }
  stroke = place(event);
  draw(event);
});

pad.addEventListener("pointermove", (event) => {
  if (stroke === null) return;
  (event.getCoalescedEvents?.() ?? []).forEach(draw);
  draw(event);
  if (!pending) {
    pending = true;
    askAboutDrawing();
  }
});

function draw(event) {
  const [x, y] = place(event);
  pen.strokeStyle = "#fff";
  pen.lineWidth = INK;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...stroke);
  pen.lineTo(x, y);
  pen.stroke();
  stroke = [x, y];
}

for (const end of ["pointerup", "pointercancel"]) {
  pad.addEventListener(end, () => {
    if (stroke === null) return;
    stroke = null;
    askAboutDrawing();
  });
}

// The camera, where there is one: the first press shows what it sees, the second takes that

const view = element("view");

async function findCamera() {
  const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  element("camera").hidden = !devices.some(({ kind }) => kind === "videoinput");
}

async function openCamera() {
  view.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  pad.hidden = true;
  view.hidden = false;
  element("camera").textContent = "Take it";
}

function closeCamera() {
  view.srcObject?.getTracks().forEach((track) => track.stop());
  view.srcObject = null;
  view.hidden = true;
  pad.hidden = false;
  element("camera").textContent = "Camera";
}

function takePhotograph() {
  if (!view.videoWidth) return; // nothing has been seen yet
  const photograph = document.createElement("canvas");
  [photograph.width, photograph.height] = [view.videoWidth, view.videoHeight];
  photograph.getContext("2d").drawImage(view, 0, 0);
  closeCamera();
  photograph.toBlob((picture) => take(picture, "Photograph"), "image/png");
}

element("camera").addEventListener("click", () => {
  if (view.srcObject) takePhotograph();
  else openCamera().catch(() => showError("The camera cannot be used: the browser has no leave, or something else has it."));
});

// Choosing, dropping, pasting

element("choose").addEventListener("click", () => element("file").click());
element("file").addEventListener("change", (event) => {
  const [picture] = event.target.files;
  if (picture) take(picture, picture.name);
  event.target.value = ""; // so that the same file can be chosen again
});

element("clear").addEventListener("click", () => {
  closeCamera();
  asked += 1;
  pending = false;
  given = null;
  forgetDrawing();
  press(null);
  blank(pad);
  pad.setAttribute("aria-label", "No picture yet");
  showError("");
  element("error").hidden = true;
  element("label").textContent = "\u00a0";
});

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const [picture] = event.dataTransfer.files;
  if (picture) take(picture, picture.name);
});
document.addEventListener("paste", (event) => {
  const [picture] = event.clipboardData.files;
  if (picture) take(picture, "Pasted picture");
});

// The start

function fillExamples() {
  return EXAMPLES.map(([name, label]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    const image = document.createElement("img");
    image.src = `examples/${name}.png`;
    image.alt = button.title = label;
    image.width = image.height = 28;
    button.append(image);
    button.addEventListener("click", () => takeExample(button, name, label).catch((error) => showError(error.message)));
    const item = document.createElement("li");
    item.append(button);
    element("examples").append(item);
    return () => takeExample(button, name, label);
  });
}

async function start() {
  findCamera();
  const [first] = fillExamples();
  try {
    for (const { name, accuracy, garment } of await models()) {
      if (garment) garments.add(name);
      model.add(new Option(accuracy ? `${name}, ${(100 * accuracy).toFixed(1)} % right` : name, name));
    }
    model.disabled = false;
    showExamples();
    if (given === null && garments.has(model.value)) await first();
  } catch (error) {
    showError(error.message);
  }
}

function showExamples() {
  document.querySelector(".examples").hidden = !garments.has(model.value);
}

model.addEventListener("change", () => {
  showExamples();
  if (given !== null) ask(given);
});
start();
