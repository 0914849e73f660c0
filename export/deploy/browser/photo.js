// From any picture to what a classifier of photographs takes: the shorter side resized, the centre cropped;
// or stretched, where the file says so.
//
// `runtime/imaging/photo.py`, with Pillow's arithmetic, since a canvas resamples in another way in each browser: a test
// compares the two. Decoding is the browser's own, see `decoding.js`; a level may differ where Pillow resizes rows before
// columns to save work.

import { luma } from "./decoding.js";

// Filters by name: how far they reach, in pixels, and their weight at a distance.
const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    reach: 2,
    weight: (at) => {
      const x = Math.abs(at);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
    },
  },
};

/**
 * Turn a picture into levels.
 * @param {{rgba: Uint8ClampedArray, width: number, height: number}} picture four bytes a pixel, row by row.
 * @param {object} input the metadata `input` of a file with the preprocess "photo".
 * @returns {Uint8Array} rows of each channel in turn, as `input.shape` says without the batch.
 */
export function toPhoto({ rgba, width, height }, { shape, preprocess }) {
  const [, channels, cropHeight, cropWidth] = shape;
  const filter = FILTERS[preprocess.interpolation];
  const [toWidth, toHeight] =
    preprocess.resize === "stretch" ? [cropWidth, cropHeight] : shorterSide(width, height, preprocess.resize);
  const across = spans(width, toWidth, roundHalfEven((toWidth - cropWidth) / 2), cropWidth, filter);
  const down = spans(height, toHeight, roundHalfEven((toHeight - cropHeight) / 2), cropHeight, filter);
  const source = channels === 1 ? { levels: luma(rgba), step: 1 } : { levels: rgba, step: 4 };
  const photo = new Uint8Array(channels * cropHeight * cropWidth);
  for (let channel = 0; channel < channels; channel++) {
    const from = { ...source, channel, width };
    photo.set(resized(from, across, down), channel * cropHeight * cropWidth);
  }
  return photo;
}

/** Width and height where the shorter one is `length`. */
function shorterSide(width, height, length) {
  const longer = Math.trunc((length * Math.max(width, height)) / Math.min(width, height));
  return width <= height ? [length, longer] : [longer, length];
}

/** One channel at another size, along the rows and then the columns: what `across` and `down` ask for. */
function resized({ levels, step, channel, width }, across, down) {
  const [top, bottom] = [down[0].first, Math.max(...down.map(({ first, weights }) => first + weights.length))];
  const narrow = new Uint8Array((bottom - top) * across.length);
  for (let y = top; y < bottom; y++) {
    across.forEach(({ first, weights }, x) => {
      let sum = 2 ** 21;
      let at = (y * width + first) * step + channel;
      for (let n = 0; n < weights.length; n++, at += step) sum += weights[n] * levels[at];
      narrow[(y - top) * across.length + x] = clipped(sum);
    });
  }
  const small = new Uint8Array(down.length * across.length);
  down.forEach(({ first, weights }, y) => {
    for (let x = 0; x < across.length; x++) {
      let sum = 2 ** 21;
      let at = (first - top) * across.length + x;
      for (let n = 0; n < weights.length; n++, at += across.length) sum += weights[n] * narrow[at];
      small[y * across.length + x] = clipped(sum);
    }
  });
  return small;
}

/** For `count` pixels from `start` on, of `size` resized to `toSize`: the first one under each, and the weights of these. */
function spans(size, toSize, start, count, { reach, weight }) {
  const scale = size / toSize;
  const wide = Math.max(scale, 1);
  return Array.from({ length: count }, (_, index) => {
    const centre = (start + index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach * wide + 0.5));
    const last = Math.min(size, Math.trunc(centre + reach * wide + 0.5));
    const weights = Array.from({ length: last - first }, (_, at) => weight((first + at - centre + 0.5) * (1 / wide)));
    const sum = weights.reduce((total, value) => total + value, 0);
    // In fixed point with 22 bits; halves are rounded away from 0.
    const fixed = (value) => Math.sign(value) * Math.trunc(Math.abs(value / sum) * 2 ** 22 + 0.5);
    return { first, weights: Int32Array.from(weights, fixed) };
  });
}

function clipped(sum) {
  return Math.min(255, Math.max(0, Math.floor(sum / 2 ** 22)));
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  const over = value - floor;
  return over > 0.5 || (over === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
