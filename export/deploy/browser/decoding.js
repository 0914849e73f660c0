// From a picture file to levels: steps 1 to 5 of `runtime/imaging/preprocess.py`, with the browser's own decoders.
//
// A grey or colour picture without transparency gives the runtime's levels exactly where the file is lossless. JPEG and
// half-transparent pixels may differ by a level, since decoders round differently; 16-bit files lose their lower bits.

const MAX_FILE_BYTES = 2 ** 28;
const MAX_PIXELS = 2 ** 26;

/**
 * Read a whole file as grey levels, as `decodeColour` does.
 * @returns {Promise<{levels: Uint8Array, width: number, height: number}>} luma (ITU-R 601), row by row.
 */
export async function decodeGrey(blob) {
  const { rgba, width, height } = await decodeColour(blob);
  return { levels: luma(rgba), width, height };
}

/**
 * Read a whole file (PNG, JPEG, whatever this browser shows), upright, over a white page.
 * @returns {Promise<{rgba: Uint8ClampedArray, width: number, height: number}>} four bytes a pixel, row by row.
 * @throws {Error} one sentence for the reader.
 */
export async function decodeColour(blob) {
  if (blob.size === 0) throw new Error("The picture is empty: 0 bytes.");
  if (blob.size > MAX_FILE_BYTES) throw new Error(`The picture holds more than ${MAX_FILE_BYTES} bytes, the most that is allowed.`);
  const bitmap = await decoded(blob);
  const { width, height } = bitmap;
  try {
    if (width * height > MAX_PIXELS) {
      throw new Error(`The picture is ${width}x${height}; at most ${MAX_PIXELS} pixels are allowed.`);
    }
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    return { rgba: context.getImageData(0, 0, width, height).data, width, height };
  } finally {
    bitmap.close();
  }
}

async function decoded(blob) {
  try {
    // The levels of the file, not those that a colour profile would make of them.
    return await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Error("This browser cannot read the picture; PNG and JPEG always work.");
  }
}

/** RGBA bytes to one level a pixel, with the weights .299, .587 and .114 in 16-bit fixed point. */
export function luma(rgba) {
  const levels = new Uint8Array(rgba.length / 4);
  for (let pixel = 0, at = 0; pixel < levels.length; pixel++, at += 4) {
    levels[pixel] = (19595 * rgba[at] + 38470 * rgba[at + 1] + 7471 * rgba[at + 2] + 32768) >> 16;
  }
  return levels;
}
