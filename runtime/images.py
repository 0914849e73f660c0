"""From any picture to what the network sees: uint8 (28, 28), grey, a light garment on black.

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

Every failure is an `ImageError` whose `kind` is one of: missing, not_a_file, unreadable, empty, not_an_image,
truncated, corrupt, too_large, array, size (of `fit="exact"`). This module knows nothing of models, labels or batches.
"""

import functools
import io
import math
import os
import re
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import ImageError, UsageError

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[Any]
Invert: TypeAlias = Literal["auto", "yes", "no"]
Fit: TypeAlias = Literal["auto", "exact", "catalogue"]
Fitted: TypeAlias = Literal["exact", "whole", "cropped", "catalogue"]

SIDE = 28  # pixels
MAX_PIXELS = 2**26  # 8192 x 8192: at most 256 MiB decoded
MAX_FILE_BYTES = 2**28  # 256 MiB: as many pixels, uncompressed and in colour

# How a file begins, and the Pillow class that reads it. Calling the class instead of `Image.open` imports no other
# plugin, and skips a warning about large pictures that `MAX_PIXELS` makes needless.
FORMATS = {
    "PNG": (rb"\x89PNG\r\n\x1a\n", "PngImagePlugin.PngImageFile"),
    "JPEG": (rb"\xff\xd8\xff", "JpegImagePlugin.JpegImageFile"),
    "WEBP": (rb"RIFF....WEBP", "WebPImagePlugin.WebPImageFile"),
    "GIF": (rb"GIF8[79]a", "GifImagePlugin.GifImageFile"),
    "BMP": (rb"BM", "BmpImagePlugin.BmpImageFile"),
    "TIFF": (rb"II[*+]\0|MM\0[*+]", "TiffImagePlugin.TiffImageFile"),
    "PPM": (rb"P[1-6]\s", "PpmImagePlugin.PpmImageFile"),
    "AVIF": (rb"....ftypavi[fs]", "AvifImagePlugin.AvifImageFile"),
}

# EXIF orientation -> the turn that undoes it; 1, and anything else, is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Chosen on test images made into photographs, by mean absolute difference; tests/test_images.py holds the results.
SURVEY_SIDE = 448  # pixels: a larger picture is surveyed on a reduced copy, which also averages noise away
NOISE = 20  # levels by which a plain background may vary
EDGE = 0.22  # share of the garment's contrast at which the garment begins; lower, and blur enlarges it
FILLED = 0.9  # share of a square picture that the garment spans in nearly every data set image
CENTRED = 0.1  # share of a square picture by which its opposite margins may differ

_warnings_lock = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """One picture as the network sees it, and what was done to get there.

    Attributes:
        array: uint8 (28, 28), a light garment on black; the caller's own copy.
        inverted: whether light and dark were exchanged.
        fit: `exact` passed through, `whole` resized, `cropped` to the garment, `catalogue` cropped and sharpened.
    """

    array: NDArray[np.uint8]
    inverted: bool
    fit: Fitted


def to_pixels(source: Source, *, invert: Invert = "auto", fit: Fit = "auto") -> Pixels:
    """Turn any picture into what the network sees, by the steps at the top of this file.

    Args:
        source: a path (every `str` is one), a whole file as bytes or as a binary stream, a Pillow picture (its current
            frame), or an array: uint8 (H, W), (1, H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA.
        invert: whether to exchange light and dark; `auto` does where the garment is darker than its background.
        fit: `auto` is step 7. `exact` refuses any size but 28x28. `catalogue` repeats what the makers of Fashion-MNIST
            did to their photographs, also to a picture of 28x28: trim, reduce, sharpen, centre.

    Raises:
        ImageError: the picture cannot be read, or `fit="exact"` and it has another size.
    """
    if invert not in get_args(Invert) or fit not in get_args(Fit):
        raise UsageError(f"invert={invert!r}, fit={fit!r}: expected one of {get_args(Invert)} and of {get_args(Fit)}")
    name = _name(source)
    with _image_errors(name):
        picture = _picture(source, name)
        grey = _upright(_grey(picture, name), picture.info.get("exif"))
    if fit == "exact" and grey.size != (SIDE, SIDE):
        found = "x".join(map(str, grey.size))
        raise ImageError("size", f"{name} is {found} pixels, but fit='exact' takes 28x28 only; fit='auto' resizes it")

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


# --- read ---


def _name(source: Source) -> str:
    """How messages call the source; `repr` keeps a name with line breaks or broken Unicode printable."""
    if isinstance(source, str | os.PathLike):
        return repr(os.fsdecode(source))
    return "the array" if isinstance(source, np.ndarray) else "the picture"


def _picture(source: Source, name: str) -> Image.Image:
    """The source as a decoded Pillow picture of a bearable size."""
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        _check_size(source, name)
        source.load()
        return source
    if isinstance(source, str | os.PathLike):
        return _decoded(_file_bytes(source, name), name)
    data = source.read(MAX_FILE_BYTES + 1) if hasattr(source, "read") else source
    if isinstance(data, bytes | bytearray | memoryview):
        return _decoded(bytes(data), name)
    expected = "a path, bytes, a binary stream, a Pillow picture or an array"
    raise ImageError("not_an_image", f"expected {expected}, found {type(data).__name__}")


def _file_bytes(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        mode = os.stat(path).st_mode
        # Asked before opening: opening a FIFO waits for its writer, and opening a device may start it.
        if stat.S_ISREG(mode):
            with open(path, "rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
    # ValueError: a name that no file can have, with a null byte or a lone half of a surrogate pair.
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise ImageError("missing", f"{name} does not exist; expected a picture file") from error
    except OSError as error:
        raise ImageError("unreadable", f"{name} cannot be read: {error.strerror or error}") from error
    found = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
    raise ImageError("not_a_file", f"{name} is {found}; expected a regular file")


def _from_array(array: NDArray[Any]) -> Image.Image:
    found = f"{array.dtype} {array.shape}"
    shape = (
        array.shape[1:] if array.ndim == 3 and array.shape[0] == 1 and array.shape[2] not in (1, 3, 4) else array.shape
    )
    if (
        array.dtype != np.uint8
        or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)))
        or not array.size
    ):
        expected = "uint8 (H, W), (1, H, W), (H, W, 1), (H, W, 3) or (H, W, 4), none of them 0"
        raise ImageError("array", f"expected an array of {expected}; found {found}")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise ImageError("too_large", f"the array is {found}; at most {MAX_PIXELS} pixels are allowed")
    return Image.fromarray(np.ascontiguousarray(array.reshape(shape[:2] if shape[2:] == (1,) else shape)))


# --- decode, flatten, grey, turn ---


def _decoded(data: bytes, name: str) -> Image.Image:
    """Decode a whole file. The header is parsed first, and decoding goes on only if the size it states is bearable."""
    if not data:
        raise ImageError("empty", f"{name} is empty: 0 bytes")
    if len(data) > MAX_FILE_BYTES:
        raise ImageError("too_large", f"{name} holds more than {MAX_FILE_BYTES} bytes, the most that is allowed")
    kind = next((kind for kind, (start, _) in FORMATS.items() if re.match(start, data, re.DOTALL)), None)
    if kind is None:
        raise ImageError("not_an_image", f"{name} is none of {', '.join(FORMATS)}: it begins with {data[:12]!r}")
    if kind == "WEBP" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ImageError("truncated", f"{name} is truncated: it ends before the length that its header states")
    with _hushed(kind in ("TIFF", "AVIF") or (kind == "PNG" and b"acTL" in data)):
        picture = _plugin(FORMATS[kind][1])(io.BytesIO(data))
        _check_size(picture, name)
        picture.load()
    return picture


@functools.cache
def _plugin(path: str) -> Callable[[BinaryIO], Image.Image]:
    module, name = path.split(".")
    plugin: type[Image.Image] = getattr(import_module(f"PIL.{module}"), name)
    # While it opens a JPEG, Pillow parses all of its EXIF for the print resolution, and warns where that is damaged.
    return type(name, (plugin,), {"_read_dpi_from_exif": lambda self: None}) if name == "JpegImageFile" else plugin


@contextmanager
def _hushed(needed: bool) -> Iterator[None]:
    """Silence the formats whose plugins warn about odd metadata; one at a time, since warning filters are global."""
    if not needed:
        yield
        return
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _image_errors(name: str) -> Iterator[None]:
    """Turn whatever a decoder throws at a damaged file into an `ImageError`: Pillow's plugins promise no one type."""
    try:
        yield
    except ImageError:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise ImageError("too_large", f"{name} does not fit in memory") from error
    except Exception as error:
        kind = "truncated" if "truncated" in str(error).lower() else "corrupt"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(kind, f"{name} is {kind} and cannot be decoded: {reason}") from error


def _check_size(picture: Image.Image, name: str) -> None:
    width, height = picture.size
    if not width * height:
        raise ImageError("empty", f"{name} has no pixels: it is {width}x{height}")
    if width * height > MAX_PIXELS:
        raise ImageError("too_large", f"{name} is {width}x{height}; at most {MAX_PIXELS} pixels are allowed")


def _grey(picture: Image.Image, name: str) -> Image.Image:
    """Luma over a white page, mode L."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        return _eight_bits(np.asarray(picture), name)
    if picture.mode == "LAB":
        return picture.getchannel("L")  # Pillow converts LAB only with a colour profile, and L is lightness already
    if not picture.has_transparency_data:
        return picture.convert("L")
    if picture.mode not in ("LA", "RGBA"):
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    page = Image.new("L", picture.size, 255)
    page.paste(picture.convert("L"), mask=picture.getchannel("A"))
    return page


def _eight_bits(levels: NDArray[Any], name: str) -> Image.Image:
    """Scale deep levels by the smallest usual white that holds them: 1 (floats only), 255 or 65535."""
    low, high = float(levels.min()), float(levels.max())
    whites = [white for white in (1, 255, 65535) if high <= white and (white > 1 or levels.dtype.kind == "f")]
    if not whites or not low >= 0:
        raise ImageError("corrupt", f"{name} has levels from {low:g} to {high:g}; expected within 0..65535")
    scaled = np.multiply(levels, 255 / whites[0], dtype=np.float32)
    return Image.fromarray(np.rint(scaled, out=scaled).astype(np.uint8))


def _upright(grey: Image.Image, exif: object) -> Image.Image:
    turn = TURNS.get(_orientation(exif)) if isinstance(exif, bytes) else None
    return grey if turn is None else grey.transpose(turn)


def _orientation(exif: bytes) -> int:
    """Tag 0x0112 of an EXIF block, 1 where it is absent or damaged. Pillow's own parser warns, and costs 20 ms."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = ">" if exif[:2] == b"MM" else "<"
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for start in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, start)
            if tag == 0x0112:
                return int(value)
    except struct.error:
        pass
    return 1


# --- survey, fit, polarity ---


def _background(levels: NDArray[np.int16]) -> tuple[int, bool]:
    """Return the background's level, and whether the garment is darker than that."""
    rim = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    # The commonest level, not the median: a garment along the edge fools it in none of the 70,000 data set images.
    # Of a noisy background: the median of the 16 neighbouring levels that hold most of the edge.
    counts = np.bincount(rim, minlength=256)
    start = int(np.convolve(counts, np.ones(16), "valid").argmax())
    upto = counts[start : start + 16].cumsum()
    background = start + int(np.searchsorted(upto, upto[-1] / 2))
    difference = levels - background
    balance = int(difference[np.abs(difference) > NOISE].sum(dtype=np.int64))
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
