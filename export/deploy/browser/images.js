// From any picture to what the network sees: 28x28 grey levels, a light garment on black.
//
// A part of `runtime/imaging/preprocess.py`, for pictures whose background has one level up to the edge: a test compares the two on
// those. Here bars are not trimmed, uneven light is not taken away, a cut-out is put on a white page, small components are not
// dropped, and pale garments are not stretched: `runtime predict` and `runtime serve` do all of it.
// Steps 1 to 3, from a file to grey levels, are the browser's own; see `decoding.js`.
// A picture here is {levels: Uint8Array or Float64Array, row by row, width, height}.

export const SIDE = 28; // pixels
const SURVEY_SIDE = 224; // pixels: a larger picture is surveyed on a reduced copy
const NOISE = 20; // levels by which a plain background may vary
const EDGE = 0.22; // share of the garment's contrast at which the garment begins
const FILLED = 0.9; // share of a square picture that the garment spans in nearly every data set image
const CENTRED = 0.1; // share of a square picture by which its opposite margins may differ
const RING = 0.04; // share of the shorter side that a corner is wide
const PALE = 40; // levels: less contrast is warned about

/**
 * Turn grey levels into what the network sees.
 * @returns {{array: Uint8Array, inverted: boolean, fit: "exact" | "whole" | "cropped", warnings: string[]}} 784 levels, what
 *   was done, and why the answer may be wrong.
 */
export function toPixels(grey) {
  const step = Math.ceil(Math.max(grey.width, grey.height) / SURVEY_SIDE);
  const survey = step > 1 ? reduced(grey, step) : grey;
  const { background, darker: inverted } = findBackground(survey);
  if (grey.width === SIDE && grey.height === SIDE && (background === 0 || background === 255)) {
    return { array: Uint8Array.from(grey.levels, (level) => (inverted ? 255 - level : level)), inverted, fit: "exact", warnings: [] };
  }

  const contrast = (level) => (inverted ? background - level : level - background);
  const strong = garmentContrast(survey, contrast);
  const box = garmentBox(survey, contrast, strong);
  const left = box.left * step;
  const top = box.top * step;
  const right = Math.min(box.right * step, grey.width);
  const bottom = Math.min(box.bottom * step, grey.height);
  const whole = fills(left, top, right, bottom, grey);
  const framed = whole
    ? resized(grey, 0, 0, grey.width, grey.height, SIDE, SIDE)
    : framedGarment(grey, left, top, right, bottom, background);
  const black = inverted ? 255 - background : background;
  const array = framed.map((level) => {
    const light = inverted ? 255 - level : level;
    return Math.min(255, Math.max(0, roundHalfEven((light - black) * (255 / (255 - black)))));
  });
  const warnings = isPlain(survey, contrast) ? [] : ["the background is not plain"];
  const possible = inverted ? background : 255 - background;
  if ((strong * 255) / possible < PALE) warnings.push(strong ? "low contrast" : "nothing stands out from the background");
  return { array, inverted, fit: whole ? "whole" : "cropped", warnings };
}

/** The background is the commonest level along the picture's edge: of the 16 neighbouring ones that hold most of it, the median. */
function findBackground({ levels, width, height }) {
  const counts = new Array(256).fill(0);
  for (let x = 0; x < width; x++) {
    counts[levels[x]]++;
    counts[levels[(height - 1) * width + x]]++;
  }
  for (let y = 0; y < height; y++) {
    counts[levels[y * width]]++;
    counts[levels[y * width + width - 1]]++;
  }
  let start = 0;
  let most = -1;
  for (let first = 0; first + 16 <= 256; first++) {
    const held = counts.slice(first, first + 16).reduce((sum, count) => sum + count);
    if (held > most) [start, most] = [first, held];
  }
  let background = start;
  for (let held = counts[start]; held < most / 2; held += counts[background]) background++;
  let balance = 0;
  for (const level of levels) {
    const difference = level - background;
    if (Math.abs(difference) > NOISE) balance += difference;
  }
  return { background, darker: balance < 0 || (balance === 0 && background > 127) };
}

/** The contrast that a tenth of what stands out from the background exceeds; 0 where nothing does. */
function garmentContrast({ levels }, contrast) {
  const standingOut = Float64Array.from(levels, contrast).filter((value) => value > NOISE).sort();
  return standingOut.length === 0 ? 0 : standingOut[Math.trunc(0.9 * (standingOut.length - 1))];
}

/** Whether most of the edge and three corners are background, and little stands out to the other side than the garment. */
function isPlain({ levels, width, height }, contrast) {
  const side = Math.max(1, Math.round(RING * Math.min(width, height)));
  const corners = new Set();
  let [edge, odd, opposite] = [0, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = contrast(levels[y * width + x]);
      const standsOut = Math.abs(value) > NOISE;
      opposite += value < -NOISE;
      if (x === 0 || y === 0 || x === width - 1 || y === height - 1) {
        edge++;
        odd += standsOut;
      }
      const across = x < side ? "left" : x >= width - side ? "right" : null;
      const down = y < side ? "top" : y >= height - side ? "bottom" : null;
      if (standsOut && across && down) corners.add(across + down);
    }
  }
  return odd <= edge / 2 && corners.size <= 1 && opposite <= 0.015 * width * height;
}

/** The smallest box around what stands out from the background; all of the picture, where nothing does. */
function garmentBox({ levels, width, height }, contrast, strong) {
  if (strong === 0) return { left: 0, top: 0, right: width, bottom: height };
  const threshold = Math.max(NOISE, EDGE * strong);
  const box = { left: width, top: height, right: 0, bottom: 0 };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (contrast(levels[y * width + x]) <= threshold) continue;
      box.left = Math.min(box.left, x);
      box.top = Math.min(box.top, y);
      box.right = Math.max(box.right, x + 1);
      box.bottom = Math.max(box.bottom, y + 1);
    }
  }
  return box;
}

/** Whether the picture is already framed as the data set is: square, filled by the garment, which is centred. */
function fills(left, top, right, bottom, { width, height }) {
  const offCentre = Math.max(Math.abs(left - (width - right)), Math.abs(top - (height - bottom)));
  const span = Math.max(right - left, bottom - top);
  return width === height && span >= FILLED * width && offCentre <= CENTRED * width;
}

/** Bring the box's longest side to 28 pixels and centre it on the background. */
function framedGarment(grey, left, top, right, bottom, background) {
  const scale = SIDE / Math.max(right - left, bottom - top);
  const width = Math.max(1, roundHalfEven((right - left) * scale));
  const height = Math.max(1, roundHalfEven((bottom - top) * scale));
  const garment = resized(grey, left, top, right, bottom, width, height);
  const framed = new Uint8Array(SIDE * SIDE).fill(background);
  const x = Math.trunc((SIDE - width + 1) / 2);
  const y = Math.trunc((SIDE - height + 1) / 2);
  for (let row = 0; row < height; row++) {
    framed.set(garment.subarray(row * width, (row + 1) * width), (y + row) * SIDE + x);
  }
  return framed;
}

/** The mean of each block of step x step pixels, rounded; blocks at the far edges may be smaller. */
function reduced({ levels, width, height }, step) {
  const columns = Math.ceil(width / step);
  const rows = Math.ceil(height / step);
  const means = new Uint8Array(columns * rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const right = Math.min(width, (column + 1) * step);
      const bottom = Math.min(height, (row + 1) * step);
      let sum = 0;
      for (let y = row * step; y < bottom; y++) {
        for (let x = column * step; x < right; x++) sum += levels[y * width + x];
      }
      const count = (right - column * step) * (bottom - row * step);
      means[row * columns + column] = Math.floor(((sum + Math.trunc(count / 2)) * Math.trunc(2 ** 24 / count)) / 2 ** 24);
    }
  }
  return { levels: means, width: columns, height: rows };
}

/** A box of the picture at another size: each pixel the mean of those under it, along the rows and then the columns. */
function resized({ levels, width, height }, left, top, right, bottom, toWidth, toHeight) {
  const rows = bottom - top;
  const narrow = new Uint8Array(toWidth * rows);
  const across = spans(left, right, width, toWidth);
  for (let y = 0; y < rows; y++) {
    across.forEach(([first, last], x) => {
      let sum = 0;
      for (let at = first; at < last; at++) sum += levels[(top + y) * width + at];
      narrow[y * toWidth + x] = mean(sum, last - first);
    });
  }
  const small = new Uint8Array(toWidth * toHeight);
  spans(top, bottom, height, toHeight).forEach(([first, last], y) => {
    for (let x = 0; x < toWidth; x++) {
      let sum = 0;
      for (let at = first; at < last; at++) sum += narrow[(at - top) * toWidth + x];
      small[y * toWidth + x] = mean(sum, last - first);
    }
  });
  return small;
}

/** For each of `count` pixels across [from, to), the first and last (exclusive) of the `size` pixels whose centres lie under it. */
function spans(from, to, size, count) {
  const scale = (to - from) / count;
  const width = Math.max(scale, 1);
  return Array.from({ length: count }, (_, index) => {
    const centre = from + (index + 0.5) * scale;
    const under = (at) => {
      const distance = (at - centre + 0.5) * (1 / width);
      return distance > -0.5 && distance <= 0.5;
    };
    let first = Math.max(0, Math.trunc(centre - width / 2 + 0.5));
    let last = Math.min(size, Math.trunc(centre + width / 2 + 0.5));
    while (first < last && !under(first)) first++;
    while (last > first && !under(last - 1)) last--;
    return [first, last];
  });
}

/** The mean of `count` levels, in fixed point with 22 bits, as Pillow has it. */
function mean(sum, count) {
  return Math.floor((sum * Math.round(2 ** 22 / count) + 2 ** 21) / 2 ** 22);
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  const over = value - floor;
  return over > 0.5 || (over === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
