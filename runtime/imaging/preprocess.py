"""From any picture to the network's input: uint8 (28, 28), grey, a light garment on black.

The one way in, in this order:

1. **Read.** A regular file, bytes, a binary stream, a Pillow picture or a uint8 array; at most `MAX_FILE_BYTES`.
2. **Decode** with Pillow: one of `FORMATS`, told by how the file begins and never by its name; at most `MAX_PIXELS`,
   checked in the header before a pixel is decoded; of an animation, the first frame; a large JPEG at a half, a quarter
   or an eighth of its size.
3. **Grey**, by luma (ITU-R 601). Deep levels are scaled to 8 bits by the file's depth, not clipped.
4. **Alpha.** Where a part of the picture is transparent, the alpha channel is the mask, whatever colour lies under it.
   A mask that is a rectangle, as of a window or of an evenly transparent picture, is laid on white, and is no mask.
   A cut-out is inverted if its border is lighter than its inside, or, if both are alike, if it is dark. It then
   stands on black, and steps 6 to 8 do nothing.
5. **Turn** upright, as EXIF says.
6. **Trim** uniform outer lines (within `BAR` levels), and uniform margins around a rectangle, captions included. Up to
   six times, and only where what is inside has a plain background, by step 10.
7. **Survey**, on a copy of at most `SURVEY_SIDE` pixels. The background is a quadratic surface fitted to the outer 4 %
   by iteratively reweighted least squares with Cauchy weights, from the commonest level and with a scale that falls
   from 40 to 5 levels; one level, where that fits as much of the edge. Contrast is the difference, as a share of what
   is possible: from a light background (the garment is darker in sum) 1 - level / surface, which also takes uneven
   light away; from a dark one (level - surface) / (255 - surface). The noise is the median deviation along the edge;
   four times as much, and 22 % of the garment's contrast, stands out.
8. **Components** under 15 % of the largest, such as captions and dust, are no part of the garment.
9. **Fit.** A 28x28 picture of the data set, known by its black edge, or its negative, passes byte for byte. A square
   picture that the garment already fills, as in an enlarged data set image, is only resized. Any other is cropped to
   the garment, whose longest side becomes 28 pixels, and centred: 98 % of Fashion-MNIST is framed so, to the pixel.
   Then the background's surface is taken away, and contrast below `PALE` is stretched to `STRETCHED`, or as far as the
   noise allows.
10. **Warn** where the background is not plain (edge or corners stand out, or much stands out to both sides), where
   nothing stands out, where the contrast is low, and where the colours are those of a colour map.

How often the answer is right then, kind by kind: benchmarks/results/pictures.json.

Steps 1 to 5 are in `runtime.imaging.load`, but for the mask; the others here. Every failure is an `ImageError` whose
`kind` is one of: missing, not_a_file, unreadable, empty, not_an_image, truncated, corrupt, too_large, array, size (of
`fit="exact"`). Neither module knows anything of models, labels or batches.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import ImageError, UsageError
from runtime.imaging.load import Source, decode_grey

Invert: TypeAlias = Literal["auto", "yes", "no"]
Fit: TypeAlias = Literal["auto", "exact", "catalogue"]
Fitted: TypeAlias = Literal["exact", "whole", "cropped", "catalogue", "photo"]
Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom

INVERTS: tuple[str, ...] = get_args(Invert)  # looked up once: it takes as long as all else here but decoding
FITS: tuple[str, ...] = get_args(Fit)
SIDE = 28  # pixels
# Chosen with benchmarks/pictures.py on images of the training set.
SURVEY_SIDE = 224  # pixels: a larger picture is surveyed on a reduced copy, which also averages noise away
RING = 0.04  # share of the shorter side, along the edge, to which the background is fitted
SAMPLES = 800  # pixels of the ring that are enough to fit six numbers
BAR = 12  # levels by which a bar, a frame or a margin may vary
FAINT = 3  # levels that stand out from a background without noise
EDGE = 0.22  # share of the garment's contrast at which the garment begins; lower, and blur enlarges it
SMALL = 0.15  # share of the largest component's pixels under which another is no part of the garment
PALE, STRETCHED = 80, 200  # levels: a garment of less contrast is stretched to this
STRETCHED_NOISE = 25  # levels that the noise may be stretched to
FILLED = 0.9  # share of a square picture that the garment spans in nearly every data set image
CENTRED = 0.1  # share of a square picture by which its opposite margins may differ

NOT_PLAIN = "the background is not plain"
BLANK = "nothing stands out from the background"
LOW_CONTRAST = "low contrast"
_NEGATIVE = bytes(range(255, -1, -1))


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """One picture as the network sees it, and what was done to get there."""

    array: NDArray[np.uint8]  # (28, 28), a light garment on black; of a photo, see `runtime.imaging.photo`
    inverted: bool  # whether light and dark were exchanged
    fit: Fitted  # passed through, resized, cropped to the garment, cropped and sharpened; or a photo
    warnings: tuple[str, ...] = ()  # why the answer may be wrong, a short sentence each


def to_pixels(source: Source, *, invert: Invert = "auto", fit: Fit = "auto", max_pixels: int | None = None) -> Pixels:
    """Turn any picture into what the network sees, by the steps at the top of this file.

    Args:
        source: a path (every `str` is one), a whole file as bytes or as a binary stream, a Pillow picture (its current
            frame), or an array: uint8 (H, W), (1, H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA.
        invert: whether to exchange light and dark; `auto` does where the garment is darker than its background.
        fit: `auto` is step 9. `exact` refuses any size but 28x28. `catalogue` repeats what the makers of Fashion-MNIST
            did to their photographs, also to a picture of 28x28: trim, reduce, sharpen, centre.
        max_pixels: how large the picture may be; by default `runtime.imaging.load.MAX_PIXELS`.

    Raises:
        ImageError: the picture cannot be read, or `fit="exact"` and it has another size.
    """
    if invert not in INVERTS or fit not in FITS:
        raise UsageError(f"invert={invert!r}, fit={fit!r}: expected one of {INVERTS} and of {FITS}")
    picture, name, notes = decode_grey(source, max_pixels)
    pixels = _preprocessed(picture, name, invert, fit)
    return replace(pixels, warnings=pixels.warnings + notes) if notes else pixels


def _preprocessed(picture: Image.Image, name: str, invert: Invert, fit: Fit) -> Pixels:
    """Steps 6 to 10; picture: mode L, or LA where a part of it is transparent."""
    if fit == "exact" and picture.size != (SIDE, SIDE):
        found = "x".join(map(str, picture.size))
        raise ImageError("size", f"{name} is {found} pixels, but fit='exact' takes 28x28 only; fit='auto' resizes it")
    if picture.mode == "LA":
        picture = _without_square_alpha(picture, crop=fit != "exact")
    if picture.mode == "LA":
        picture, inverted = _on_black(picture, invert)
        levels = np.asarray(picture, np.float64)
        return _fitted(picture, _surveyed(levels, Background(np.zeros(6), 0.0, 1.0)), False, fit, inverted)
    if picture.size == (SIDE, SIDE) and fit != "catalogue" and invert != "yes":
        plain = picture.tobytes()
        if _from_data_set(plain):
            return Pixels(np.frombuffer(bytearray(plain), np.uint8).reshape(SIDE, SIDE), False, "exact")
        if invert == "auto" and _from_data_set(negative := plain.translate(_NEGATIVE)):
            return Pixels(np.frombuffer(bytearray(negative), np.uint8).reshape(SIDE, SIDE), True, "exact")
    step = math.ceil(max(picture.size) / SURVEY_SIDE)
    levels = np.asarray(picture.reduce(step) if step > 1 else picture, np.float64)
    (left, top, right, bottom), survey = _trimmed(levels)
    if fit != "exact" and (right - left, bottom - top) != levels.shape[::-1]:
        right, bottom = min(right * step, picture.width), min(bottom * step, picture.height)
        picture = picture.crop((left * step, top * step, right, bottom))
    inverted = survey.lighter if invert == "auto" else invert == "yes"
    return _fitted(picture, survey, inverted, fit, inverted)


def _from_data_set(levels: bytes) -> bool:
    """Whether 28x28 levels are a data set image's: true of all 70,000. Most of the edge is black or, where a garment
    covers it, a part of it is, and the picture reaches white. None of them has a black frame round a lit rectangle."""
    edge = levels[:SIDE] + levels[-SIDE:] + levels[::SIDE] + levels[SIDE - 1 :: SIDE]
    black = edge.count(0)
    if 2 * black <= len(edge):
        return black >= 8 and black >= edge.count(255) and (b"\xff" in levels or b"\xfe" in levels)
    is_dark = levels.isascii()  # no level above 127; a loop over the levels would take a quarter of all the time
    return not is_dark and not (black >= 0.97 * len(edge) and _is_framed(levels))


def _is_framed(levels: bytes) -> bool:
    """Whether 28x28 levels have bars at all four sides."""
    inner = _without_bars(np.frombuffer(levels, np.uint8).reshape(SIDE, SIDE).astype(np.float64))
    return inner is not None and min(inner[0], inner[1], SIDE - inner[2], SIDE - inner[3]) > 0


@dataclass(frozen=True, slots=True)
class Background:
    """What lies behind the garment."""

    surface: NDArray[np.float64]  # (6,): its level by 1, x, y, x**2, x*y and y**2; x and y are -1 to 1 over the picture
    noise: float  # the standard deviation of levels around it
    share: float  # of the picture's edge that lies on it


@dataclass(frozen=True, slots=True)
class Survey:
    """What is seen of a picture."""

    background: Background
    lighter: bool  # whether the background is lighter than the garment
    strong: float  # the garment's contrast: that which 10 % of what stands out exceeds; 0 where nothing does
    garment: NDArray[np.bool_]  # (H, W), the pixels that stand out
    others: NDArray[np.bool_]  # (H, W), those that do and belong to small components
    plain: bool  # whether the background is plain


def _surveyed(levels: NDArray[np.float64], background: Background) -> Survey:
    """Step 7, from the background on; levels: float64 (H, W)."""
    height, width = levels.shape
    surface = _surface(background.surface, (0, 0, 1, 1), (width, height))
    difference = levels - surface
    least = max(FAINT, 4 * background.noise)
    balance = float(difference[np.abs(difference) > least].sum())
    lighter = balance < 0 or (balance == 0 and float(surface.mean()) > 127)
    contrast = _contrast(levels, surface, lighter)
    strong = _strong(contrast, least)
    threshold = max(least, EDGE * strong)
    garment, others = _components(contrast > threshold)
    opposite = contrast < -max(20.0, least)
    odd = garment | opposite
    edge = np.concatenate([odd[0], odd[1:, -1], odd[-1, -2::-1], odd[-2:0:-1, 0]])
    stretches = int(np.count_nonzero(edge[1:] > edge[:-1])) + int(edge[0] > edge[-1])
    side = max(1, round(RING * min(height, width)))
    ends = slice(None, side), slice(-side, None)
    corners = sum(bool(odd[y, x].any()) for y in ends for x in ends)
    plain = (
        background.share >= 0.5
        and background.noise <= 10
        and stretches <= 6
        and corners <= 1
        and np.count_nonzero(opposite) <= 0.015 * opposite.size
    )
    return Survey(background, lighter, strong, garment, others, bool(plain))


def _background(levels: NDArray[np.float64]) -> Background:
    """Fit the background to the picture's edge; levels: float64 (H, W)."""
    height, width = levels.shape
    ring = max(1, round(RING * min(height, width)))
    outside = np.ones(levels.shape, bool)
    outside[ring:-ring, ring:-ring] = False
    at = np.flatnonzero(outside)
    at = at[:: max(1, len(at) // SAMPLES)]
    found = levels.ravel()[at]
    commonest = _commonest(found)
    surface = np.array([commonest, 0.0, 0.0, 0.0, 0.0, 0.0])
    deviation = np.abs(found - commonest)
    share = float(np.mean(deviation < 6))
    if share < 0.95 and len(at) > 12:
        x, y = _centres(0, 1, width)[at % width], _centres(0, 1, height)[at // width]
        terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
        least = np.diag([0.0] + [1e-3 * len(at)] * 5)  # or a few pixels of the background may bend the surface far
        fitted = surface
        for scale in (40, 40, 20, 20, 10, 10, 5, 5):
            weighted = terms / (1 + ((found - fitted @ terms) / scale) ** 2)
            fitted = np.linalg.solve(weighted @ terms.T + least, weighted @ found)
        bent = np.abs(found - fitted @ terms)
        if float(np.mean(bent < 6)) > share + 0.05:
            surface, deviation = fitted, bent
    near = deviation[deviation <= 25]
    noise = 1.4826 * float(np.median(near)) if near.size else 25.0
    return Background(surface, noise, float(np.mean(deviation <= max(6.0, 4 * noise))))


def _commonest(levels: NDArray[np.float64]) -> float:
    """Return the median of the 16 neighbouring levels that hold most of (N,) levels."""
    ordered = np.sort(levels)
    held = np.searchsorted(ordered, ordered + 16) - np.arange(len(ordered))
    start = int(held.argmax())
    return float(ordered[start + (int(held[start]) - 1) // 2])


def _centres(start: float, stop: float, count: int) -> NDArray[np.float64]:
    """Return the centres of `count` pixels between two shares of a side, on a scale of -1 to 1 for 0 to 1."""
    return np.asarray(2 * (start + (np.arange(count) + 0.5) * ((stop - start) / count)) - 1, np.float64)


def _surface(terms: NDArray[np.float64], part: tuple[float, float, float, float], size: tuple[int, int]) -> Any:
    """Return the background's levels, float64 (H, W), over a part of the picture in shares of its sides."""
    level, by_x, by_y, by_x2, by_xy, by_y2 = terms.tolist()
    x, y = _centres(part[0], part[2], size[0]), _centres(part[1], part[3], size[1])[:, None]
    if not terms[1:].any():
        return np.full(size[::-1], level)
    return np.clip((level + by_x * x + by_x2 * x * x) + (by_y * y + by_y2 * y * y) + (by_xy * y) * x, 0, 255)


def _contrast(levels: NDArray[np.float64], surface: NDArray[np.float64], lighter: bool) -> NDArray[np.float64]:
    """Return how far levels stand out from the background: 0, and 255 where they are the darkest or lightest."""
    if lighter:
        return (surface - levels) * (255 / np.maximum(surface, 1))
    return (levels - surface) * (255 / np.maximum(255 - surface, 1))


def _strong(contrast: NDArray[np.float64], least: float) -> float:
    standing_out = contrast[contrast > least]
    if not standing_out.size:
        return 0.0
    nth = int(0.9 * (standing_out.size - 1))
    return float(np.partition(standing_out, nth)[nth])  # np.percentile would import numpy.ma, 20 ms of a first call


def _trimmed(levels: NDArray[np.float64]) -> tuple[Box, Survey]:
    """Return what is inside bars, frames and margins, and its survey."""
    left, top, right, bottom = 0, 0, levels.shape[1], levels.shape[0]
    survey = _surveyed(levels, _background(levels))
    for _ in range(6):
        part = levels[top:bottom, left:right]
        for inner in (_without_bars(part), _without_margin(part)):
            if inner is None or min(inner[2] - inner[0], inner[3] - inner[1]) < 16:
                continue
            inner = _without_blend(inner, part.shape)
            inside = part[inner[1] : inner[3], inner[0] : inner[2]]
            found = _surveyed(inside, _background(inside))
            share = np.count_nonzero(found.garment) / inside.size
            thin = inside.size >= 0.8 * part.size
            if not _is_another_level(part, inner, found.background):
                continue
            if (found.plain and 0.02 < share < 0.95) or (thin and not survey.plain):
                left, top, right, bottom = left + inner[0], top + inner[1], left + inner[2], top + inner[3]
                survey = found
                break
        else:
            break
    return (left, top, right, bottom), survey


def _is_another_level(levels: NDArray[np.float64], inner: Box, background: Background) -> bool:
    """Whether what is trimmed differs from the background inside: else it is a part of that, beside a garment."""
    left, top, right, bottom = inner
    height, width = levels.shape
    lines = (levels[:, 0], left), (levels[0], top), (levels[:, -1], width - right), (levels[-1], height - bottom)
    inside = float(_surface(background.surface, (0, 0, 1, 1), (9, 9)).mean())
    return all(abs(float(np.median(line)) - inside) > BAR for line, trimmed in lines if trimmed)


def _without_blend(inner: Box, shape: tuple[int, ...]) -> Box:
    """Return the box less a line at each side that was trimmed, in which reducing or JPEG mixes the levels of both."""
    left, top, right, bottom = inner
    if min(right - left, bottom - top) < 64:
        return inner
    return left + (left > 0), top + (top > 0), right - (right < shape[1]), bottom - (bottom < shape[0])


def _without_bars(levels: NDArray[np.float64]) -> Box | None:
    """Return what is between outer lines of one level; None where no such line ends at one that is wholly another."""
    height, width = levels.shape
    sides = (levels.T, levels, levels.T[::-1], levels[::-1])  # the lines from each side inwards
    bars = [_bar(lines) for lines in sides]
    counts = [count for count, _ in bars]
    failed = True
    while failed and any(counts):
        left, top, right, bottom = counts
        failed = False
        for side, (lines, (count, level)) in enumerate(zip(sides, bars, strict=True)):
            if counts[side]:
                inner = lines[count][top : height - bottom] if side % 2 == 0 else lines[count][left : width - right]
                if np.mean(np.abs(inner - level) > BAR) < 0.9:
                    counts[side], failed = 0, True
    left, top, right, bottom = counts
    return (left, top, width - right, height - bottom) if any(counts) else None


def _bar(lines: NDArray[np.float64]) -> tuple[int, float]:
    """Return how many of the first lines are of the first one's level, and that level."""
    level = float(np.median(lines[0]))
    if np.mean(np.abs(lines[0] - level) <= BAR) < 0.97:
        return 0, level
    same = np.mean(np.abs(lines[: len(lines) // 2] - level) <= BAR, axis=1) >= 0.97
    return (0 if same.all() else int(same.argmin())), level


def _without_margin(levels: NDArray[np.float64]) -> Box | None:
    """Return the largest rectangle beside or inside margins of one level, in which there may be ticks and captions;
    None without. A margin has the level of an outermost line, and is trimmed where 97 % of that line have it."""
    lines = levels[0], levels[-1], levels[:, 0], levels[:, -1]
    tried: list[float] = []
    largest: Box | None = None
    for line in lines:
        level = float(np.median(line))
        if any(abs(level - other) <= BAR for other in tried):
            continue
        tried.append(level)
        whole = [np.mean(np.abs(outer - level) <= BAR) >= 0.97 for outer in lines]
        other = np.abs(levels - level) > BAR
        for share, least in ((0.5, 0.8), (0.8, 0.95)):  # the latter where a caption is as long as half the rectangle
            top, bottom = _most(other.sum(axis=1), share)
            left, right = _most(other[top:bottom].sum(axis=0), share)
            inner = other[top:bottom, left:right]
            trimmed = top > 0, bottom < levels.shape[0], left > 0, right < levels.shape[1]
            if any(at and not margin for at, margin in zip(trimmed, whole, strict=True)):
                continue
            if min(inner[0].mean(), inner[-1].mean(), inner[:, 0].mean(), inner[:, -1].mean()) < least:
                continue
            if largest is None or inner.size > (largest[2] - largest[0]) * (largest[3] - largest[1]):
                largest = left, top, right, bottom
    return largest


def _most(counts: NDArray[np.int64], share: float) -> tuple[int, int]:
    """Return the first and last (exclusive) index of counts of at least that share of the greatest."""
    at = np.flatnonzero(counts >= share * counts.max())
    return int(at[0]), int(at[-1]) + 1


def _without_square_alpha(picture: Image.Image, *, crop: bool) -> Image.Image:
    """Return what the mask shows over a white page, mode L, where that is no more than a rectangle: a picture that is
    evenly transparent, or a window with round corners, which get the level of the edge beside them."""
    levels, alpha = (np.asarray(channel, np.float64) for channel in picture.split())
    opaque = _opaque(alpha)
    left, top, right, bottom = _box(opaque) if crop else (0, 0, *picture.size)
    opaque = opaque[top:bottom, left:right]
    if np.mean(opaque) < 0.985:
        return picture
    blended = (255 + (levels - 255) * (alpha / 255))[top:bottom, left:right]
    edge, shown = (np.concatenate([of[0], of[-1], of[:, 0], of[:, -1]]) for of in (blended, opaque))
    return Image.fromarray(_to_uint8(np.where(opaque, blended, np.median(edge[shown]))))


def _opaque(alpha: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each pixel is more than half as opaque as the most opaque one."""
    return np.asarray(2.0 * alpha > max(1, int(alpha.max())))


def _on_black(picture: Image.Image, invert: Invert) -> tuple[Image.Image, bool]:
    """Return a cut-out, mode LA, as a light garment on black, mode L, and whether that exchanged light and dark."""
    step = math.ceil(max(picture.size) / (2 * SURVEY_SIDE))
    if step > 1:
        picture = picture.reduce(step)
    levels, alpha = (np.asarray(channel, np.float64) for channel in picture.split())
    opaque = _opaque(alpha)
    inner = opaque
    for _ in range(max(1, round(max(picture.size) / 56))):
        grown = np.pad(inner, 1)
        inner = inner & grown[:-2, 1:-1] & grown[2:, 1:-1] & grown[1:-1, :-2] & grown[1:-1, 2:]
    shown = levels[opaque]
    if invert != "auto" or not shown.size:
        inverted = invert == "yes"
    else:
        inside = float(levels[inner].mean()) if inner.any() else float(shown.mean())
        border = float(levels[opaque & ~inner].mean())
        inverted = border > inside if abs(border - inside) > 0.3 * float(shown.std()) else inside < 128
    if inverted:
        levels, shown = 255 - levels, 255 - shown
    strong = _strong(shown, 0)
    levels = np.clip(levels * _gain(strong, 0.0), 0, 255)
    return Image.fromarray(_to_uint8(levels * (alpha / 255))), inverted


def _fitted(picture: Image.Image, survey: Survey, negate: bool, fit: Fit, inverted: bool) -> Pixels:
    """Steps 8 to 10; `negate` is whether to exchange light and dark here, `inverted` what the result says: a cut-out
    may have been exchanged before."""
    if fit == "exact":
        levels = np.array(picture)
        return Pixels(255 - levels if negate else levels, inverted, "exact")
    height, width = survey.garment.shape
    box = _box(survey.garment)
    done: Fitted = "catalogue" if fit == "catalogue" else "whole" if _fills(box, (width, height)) else "cropped"
    if done == "whole":
        box = 0, 0, width, height
    across, down = picture.width / width, picture.height / height
    step = math.ceil(max(across, down))
    left, top = box[0] * step, box[1] * step
    right, bottom = min(box[2] * step, picture.width), min(box[3] * step, picture.height)
    scale = SIDE / max(right - left, bottom - top)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    # BOX, the plain mean of what lies under a pixel, undoes a whole enlargement exactly and otherwise measures as well
    # as LANCZOS, which is what ImageMagick, and so the data set, reduces with.
    how = Image.Resampling.BOX if scale <= 1 else Image.Resampling.BILINEAR
    how = Image.Resampling.LANCZOS if fit == "catalogue" else how
    reduced = picture.resize(size, how, box=(left, top, right, bottom))
    levels = _sharpened(np.asarray(reduced)) if fit == "catalogue" else np.asarray(reduced, np.float64)
    # Where the caller overrules the survey's polarity, what it took for the background is not trusted either.
    if negate == survey.lighter:
        part = left / picture.width, top / picture.height, right / picture.width, bottom / picture.height
        levels = _contrast(levels, _surface(survey.background.surface, part, size), survey.lighter)
        levels *= _gain(survey.strong, survey.background.noise)
        if done != "whole" and survey.others.any():
            hidden = Image.fromarray(survey.others.astype(np.uint8)).resize(size, Image.Resampling.BOX, box=box)
            levels[np.asarray(hidden) > 0] = 0
    elif negate:
        levels = 255 - levels
    framed = np.full((SIDE, SIDE), 0.0 if negate == survey.lighter else _level(survey.background, negate))
    # Where it cannot be centred evenly, the data set's wider margin is nearly always at the left and at the top.
    x, y = (SIDE - size[0] + 1) // 2, (SIDE - size[1] + 1) // 2
    framed[y : y + size[1], x : x + size[0]] = levels
    warnings = [] if survey.plain else [NOT_PLAIN]
    if survey.strong < PALE / 2:
        warnings.append(LOW_CONTRAST if survey.strong else BLANK)
    return Pixels(_to_uint8(framed), inverted, done, tuple(warnings))


def _level(background: Background, negate: bool) -> float:
    level = float(_surface(background.surface, (0, 0, 1, 1), (1, 1))[0, 0])
    return 255 - level if negate else level


def _gain(strong: float, noise: float) -> float:
    """Return by how much to stretch a garment of that contrast."""
    return max(1.0, min(STRETCHED / strong, STRETCHED_NOISE / max(noise, 0.1))) if 0 < strong < PALE else 1.0


def _components(standing_out: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Part what stands out, bool (H, W), into the garment and the rest: components under SMALL of the largest.

    Pixels within a 56th of the picture of each other are connected: they are counted in cells of that size, and the
    runs of cells in neighbouring rows are joined where they touch, at corners too.
    """
    height, width = standing_out.shape
    if not standing_out.any():
        return standing_out, standing_out
    cell = max(1, round(max(height, width) / 56))
    rows, columns = -(-height // cell), -(-width // cell)
    padded = np.zeros((rows * cell, columns * cell), np.int32)
    padded[:height, :width] = standing_out
    counts = padded.reshape(rows, cell, -1).sum(axis=1).reshape(rows, columns, cell).sum(axis=2)
    parents: list[int] = []
    runs: list[tuple[int, int, int, int]] = []  # row, first and last (exclusive) column, pixels

    def root(run: int) -> int:
        while parents[run] != run:
            run = parents[run]
        return run

    starts_row = 0
    edges = np.diff(np.pad(counts > 0, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    for row in range(rows):
        above, starts_row = range(starts_row, len(runs)), len(runs)
        starts, stops = np.flatnonzero(edges[row] > 0).tolist(), np.flatnonzero(edges[row] < 0).tolist()
        for start, stop in zip(starts, stops, strict=True):
            parents.append(len(runs))
            runs.append((row, start, stop, int(counts[row, start:stop].sum())))
            for other in above:
                if runs[other][1] <= stop and start <= runs[other][2]:
                    parents[root(other)] = root(len(runs) - 1)
    sizes: dict[int, int] = {}
    for run, (*_, pixels) in enumerate(runs):
        sizes[root(run)] = sizes.get(root(run), 0) + pixels
    least = SMALL * max(sizes.values())
    if min(sizes.values()) >= least:
        return standing_out, np.zeros_like(standing_out)
    small = np.zeros((rows, columns), bool)
    for run, (row, start, stop, _) in enumerate(runs):
        small[row, start:stop] = sizes[root(run)] < least
    dropped = np.repeat(np.repeat(small, cell, axis=0), cell, axis=1)[:height, :width]
    return standing_out & ~dropped, standing_out & dropped


def _box(garment: NDArray[np.bool_]) -> Box:
    """Return the smallest box around what is True; all, where nothing is."""
    columns, rows = np.flatnonzero(garment.any(axis=0)), np.flatnonzero(garment.any(axis=1))
    if not rows.size:
        return 0, 0, garment.shape[1], garment.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _fills(box: Box, size: tuple[int, int]) -> bool:
    """Whether the picture is already framed as the data set is: square, filled by the garment, which is centred."""
    (left, top, right, bottom), (width, height) = box, size
    off_centre = max(abs(left - (width - right)), abs(top - (height - bottom)))
    return width == height and max(right - left, bottom - top) >= FILLED * width and off_centre <= CENTRED * width


def _sharpened(levels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """ImageMagick's `-sharpen 1x1`: a 3x3 kernel of -exp(-r**2 / 2) around twice the sum of exp(-r**2 / 2)."""
    height, width = levels.shape
    padded = np.pad(levels.astype(np.float64), 1, mode="edge")
    kernel = -np.exp([[-1, -0.5, -1], [-0.5, 0, -0.5], [-1, -0.5, -1]])
    kernel[1, 1] = -2 * kernel.sum()
    kernel /= kernel.sum()
    total = np.zeros(levels.shape)
    for (y, x), weight in np.ndenumerate(kernel):
        total += weight * padded[y : y + height, x : x + width]
    return np.clip(np.rint(total), 0, 255)


def _to_uint8(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
