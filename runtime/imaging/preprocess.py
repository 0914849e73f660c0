"""From any picture to the network's input: uint8 (28, 28), grey, a light garment on black.

The one way in, in this order:

1. **Read.** A regular file, bytes, a binary stream, a Pillow picture or a uint8 array; at most `MAX_FILE_BYTES`.
2. **Decode** with Pillow: one of `FORMATS`, told by how the file begins and never by its name; at most `MAX_PIXELS`,
   checked in the header before a pixel is decoded; of an animation, the first frame.
3. **Flatten.** What is transparent becomes white, like the pages that Fashion-MNIST's own photographs were taken on.
4. **Grey**, by luma (ITU-R 601). 16-bit, 32-bit and float levels are scaled to 8 bits, not clipped.
5. **Turn** upright, as EXIF says.
6. **Survey.** The background is the commonest level along the picture's edge; the garment is what differs from it.
7. **Fit.** A picture of exactly 28x28 passes through. A square one that the garment already fills, as in an enlarged
   data set image, is only resized. Any other is cropped to the garment, whose longest side becomes 28 pixels, and
   centred: 98 % of Fashion-MNIST is framed so, to the pixel.
8. **Polarity.** Where the garment is darker than the background, light and dark are exchanged. Except in the
   pass-through, the background then becomes black, whatever grey it was: in Fashion-MNIST it is exactly 0.

Steps 1 to 5 are in `runtime.imaging.load`, the others here. Every failure is an `ImageError` whose `kind` is one of:
missing, not_a_file, unreadable, empty, not_an_image, truncated, corrupt, too_large, array, size (of `fit="exact"`).
Neither module knows anything of models, labels or batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import ImageError, UsageError
from runtime.imaging.load import Source, decode_grey

Invert: TypeAlias = Literal["auto", "yes", "no"]
Fit: TypeAlias = Literal["auto", "exact", "catalogue"]
Fitted: TypeAlias = Literal["exact", "whole", "cropped", "catalogue", "photo"]

INVERTS: tuple[str, ...] = get_args(Invert)  # looked up once: it takes as long as all else here but decoding
FITS: tuple[str, ...] = get_args(Fit)
SIDE = 28  # pixels
# Chosen on test images made into photographs, by mean absolute difference: tests/runtime/imaging/test_framing.py.
SURVEY_SIDE = 448  # pixels: a larger picture is surveyed on a reduced copy, which also averages noise away
NOISE = 20  # levels by which a plain background may vary
EDGE = 0.22  # share of the garment's contrast at which the garment begins; lower, and blur enlarges it
FILLED = 0.9  # share of a square picture that the garment spans in nearly every data set image
CENTRED = 0.1  # share of a square picture by which its opposite margins may differ


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """One picture as the network sees it, and what was done to get there.

    Attributes:
        array: uint8 (28, 28), a light garment on black; the caller's own copy. Of a photo, see `runtime.imaging.photo`.
        inverted: whether light and dark were exchanged.
        fit: `exact` passed through, `whole` resized, `cropped` to the garment, `catalogue` cropped and sharpened;
            `photo` where the network is no garment's.
    """

    array: NDArray[np.uint8]
    inverted: bool
    fit: Fitted


def to_pixels(source: Source, *, invert: Invert = "auto", fit: Fit = "auto", max_pixels: int | None = None) -> Pixels:
    """Turn any picture into what the network sees, by the steps at the top of this file.

    Args:
        source: a path (every `str` is one), a whole file as bytes or as a binary stream, a Pillow picture (its current
            frame), or an array: uint8 (H, W), (1, H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA.
        invert: whether to exchange light and dark; `auto` does where the garment is darker than its background.
        fit: `auto` is step 7. `exact` refuses any size but 28x28. `catalogue` repeats what the makers of Fashion-MNIST
            did to their photographs, also to a picture of 28x28: trim, reduce, sharpen, centre.
        max_pixels: how large the picture may be; by default `runtime.imaging.load.MAX_PIXELS`.

    Raises:
        ImageError: the picture cannot be read, or `fit="exact"` and it has another size.
    """
    if invert not in INVERTS or fit not in FITS:
        raise UsageError(f"invert={invert!r}, fit={fit!r}: expected one of {INVERTS} and of {FITS}")
    return _preprocessed(*decode_grey(source, max_pixels), invert, fit)


def _preprocessed(grey: Image.Image, name: str, invert: Invert, fit: Fit) -> Pixels:
    """Steps 6 to 8."""
    if fit == "exact" and grey.size != (SIDE, SIDE):
        found = "x".join(map(str, grey.size))
        raise ImageError("size", f"{name} is {found} pixels, but fit='exact' takes 28x28 only; fit='auto' resizes it")

    if grey.size == (SIDE, SIDE) and fit != "catalogue" and invert != "yes":
        plain = grey.tobytes()
        if _on_plain_black(plain):
            return Pixels(np.frombuffer(bytearray(plain), np.uint8).reshape(SIDE, SIDE), False, "exact")
    step = math.ceil(max(grey.size) / SURVEY_SIDE)
    survey = np.asarray(grey.reduce(step) if step > 1 else grey).astype(np.int16)
    background, darker = _background(survey)
    inverted = darker if invert == "auto" else invert == "yes"
    if grey.size == (SIDE, SIDE) and fit != "catalogue":
        return Pixels(255 - np.asarray(grey) if inverted else np.array(grey), inverted, "exact")

    contrast = background - survey if darker else survey - background
    left, top, right, bottom = (edge * step for edge in _garment_box(contrast))
    box = left, top, min(right, grey.width), min(bottom, grey.height)
    done: Fitted
    if fit == "auto" and _fills(box, grey.size):
        done = "whole"
        levels = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))
    else:
        done = "catalogue" if fit == "catalogue" else "cropped"
        levels = _framed(grey, box, background, sharpen=fit == "catalogue")
    # Where the caller overrules the survey's polarity, what it took for the background is not trusted either.
    black = 0 if inverted != darker else 255 - background if inverted else background
    return Pixels(_on_black(255 - levels if inverted else levels, black), inverted, done)


def _on_plain_black(levels: bytes) -> bool:
    """Whether most of the edge is 0, so that `_background` would say: 0, and nothing is darker. It takes 50 us."""
    edge = levels[:SIDE] + levels[-SIDE:] + levels[::SIDE] + levels[SIDE - 1 :: SIDE]
    return edge.count(0) > len(edge) // 2


def _background(levels: NDArray[np.int16]) -> tuple[int, bool]:
    """Return the background's level, and whether the garment is darker than that; levels: int16 (H, W)."""
    # The commonest level, not the median: a garment along the edge fools it in none of the 70,000 data set images.
    # Of a noisy background: the median of the 16 neighbouring levels that hold most of the edge.
    edge = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    up_to = np.concatenate([[0], np.bincount(edge, minlength=256).cumsum()])  # [level]: how many are darker
    within = up_to[16:] - up_to[:-16]
    start = int(within.argmax())
    background = int(np.count_nonzero(up_to[1:] < up_to[start] + within[start] / 2))
    difference = levels - np.int16(background)
    balance = int((difference * (np.abs(difference) > NOISE)).sum(dtype=np.int64))
    return background, balance < 0 or (balance == 0 and background > 127)


def _garment_box(contrast: NDArray[np.int16]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what stands out from the background; of all, where nothing does."""
    standing_out = contrast[contrast > NOISE]
    if not standing_out.size:
        return 0, 0, contrast.shape[1], contrast.shape[0]
    nth = int(0.9 * (standing_out.size - 1))
    strong = int(np.partition(standing_out, nth)[nth])  # np.percentile would import numpy.ma, 20 ms of a first call
    garment = contrast > max(NOISE, EDGE * strong)
    columns, rows = np.flatnonzero(garment.any(axis=0)), np.flatnonzero(garment.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _fills(box: tuple[int, int, int, int], size: tuple[int, int]) -> bool:
    """Whether the picture is already framed as the data set is: square, filled by the garment, which is centred."""
    (left, top, right, bottom), (width, height) = box, size
    off_centre = max(abs(left - (width - right)), abs(top - (height - bottom)))
    return width == height and max(right - left, bottom - top) >= FILLED * width and off_centre <= CENTRED * width


def _framed(
    grey: Image.Image, box: tuple[int, int, int, int], background: int, *, sharpen: bool = False
) -> NDArray[np.uint8]:
    """Bring the box's longest side to 28 pixels and centre it on the background: uint8 (28, 28)."""
    left, top, right, bottom = box
    scale = SIDE / max(right - left, bottom - top)
    width, height = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    # BOX, the plain mean of what lies under a pixel, undoes a whole enlargement exactly and otherwise measures as well
    # as LANCZOS, which is what ImageMagick, and so the data set, reduces with.
    filter_ = Image.Resampling.LANCZOS if sharpen else Image.Resampling.BOX
    garment = np.asarray(grey.resize((width, height), filter_, box=box))
    framed = np.full((SIDE, SIDE), background, np.uint8)
    # Where it cannot be centred evenly, the data set's wider margin is nearly always at the left and at the top.
    x, y = (SIDE - width + 1) // 2, (SIDE - height + 1) // 2
    framed[y : y + height, x : x + width] = _sharpened(garment) if sharpen else garment
    return framed


def _sharpened(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ImageMagick's `-sharpen 1x1`: a 3x3 kernel of -exp(-r**2 / 2) around twice the sum of exp(-r**2 / 2)."""
    height, width = levels.shape
    padded = np.pad(levels.astype(np.float64), 1, mode="edge")
    kernel = -np.exp([[-1, -0.5, -1], [-0.5, 0, -0.5], [-1, -0.5, -1]])
    kernel[1, 1] = -2 * kernel.sum()
    kernel /= kernel.sum()
    total = np.zeros(levels.shape)
    for (y, x), weight in np.ndenumerate(kernel):
        total += weight * padded[y : y + height, x : x + width]
    return _to_uint8(total)


def _on_black(levels: NDArray[np.uint8], black: int) -> NDArray[np.uint8]:
    """Stretch the levels so that `black` becomes 0 and white stays 255."""
    return _to_uint8((levels.astype(np.float64) - black) * (255 / (255 - black)))


def _to_uint8(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
