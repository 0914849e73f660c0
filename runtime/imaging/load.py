"""Decode any source to an upright picture: grey with its mask, as `runtime.imaging.preprocess` takes it, or on white.

Pillow decodes; what is added here is distrust: formats by allow-list, sizes before pixels, and whatever a damaged file
makes a decoder throw is an `ImageError`.
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
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from runtime.errors import ImageError, quoted

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[Any]


MAX_PIXELS = 2**26  # 8192 x 8192: at most 256 MiB decoded
MAX_FILE_BYTES = 2**28  # 256 MiB: as many pixels, uncompressed and in colour

# What a file has at an offset, and the Pillow class that reads it. Calling the class instead of `Image.open` imports no
# other plugin, and skips a warning about large pictures that `MAX_PIXELS` makes needless.
FORMATS: dict[str, tuple[int, tuple[bytes, ...], str]] = {
    "PNG": (0, (b"\x89PNG\r\n\x1a\n",), "PngImagePlugin.PngImageFile"),
    "JPEG": (0, (b"\xff\xd8\xff",), "JpegImagePlugin.JpegImageFile"),
    "WEBP": (8, (b"WEBP",), "WebPImagePlugin.WebPImageFile"),
    "GIF": (0, (b"GIF87a", b"GIF89a"), "GifImagePlugin.GifImageFile"),
    "BMP": (0, (b"BM",), "BmpImagePlugin.BmpImageFile"),
    "TIFF": (0, (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+"), "TiffImagePlugin.TiffImageFile"),
    "PPM": (0, (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), "PpmImagePlugin.PpmImageFile"),
    "AVIF": (4, (b"ftypavif", b"ftypavis"), "AvifImagePlugin.AvifImageFile"),
}

# The same of formats that Pillow reads with a plugin: the package to install and the module to import.
PLUGINS: dict[str, tuple[int, tuple[bytes, ...], str, str]] = {
    "HEIC": (
        4,
        tuple(b"ftyp" + brand for brand in b"heic heix hevc heim heis mif1 msf1".split()),
        "pillow-heif",
        "pillow_heif",
    ),
    "JPEG XL": (0, (b"\xff\x0a", b"\0\0\0\x0cJXL "), "pillow-jxl-plugin", "pillow_jxl"),
}
COLOUR_MAP = "the colours look like a colour map; give the grey picture"
# Pixels that the shorter side of a JPEG keeps at least, where it is decoded at a fraction of its size.
DRAFT_SIDE = 1024

FREE_READS = 2**14  # of any file
BYTES_A_READ = 128  # a long file is read in parts of this many bytes on average, or of more: a GIF's are of 128
FREE_TILE = 2**24  # pixels of a tile that any picture may have; a picture in one tile may have a larger one
MAX_SCANS = 100  # of a JPEG; encoders make one, or for a progressive picture about ten
_TILE_TAGS = {322, 323}  # width and length
_FORMATS = {3: "H", 4: "I"}  # of a TIFF's numbers, by type: SHORT and LONG

_START_OF_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # but for those inside a scan: stuffing and restarts

SUFFIXES = frozenset(  # of the files that are taken from a folder; a file that is named is always tried
    ".png .jpg .jpeg .jpe .jfif .gif .bmp .dib .webp .tif .tiff .ppm .pgm .pbm .pnm .avif".split()  # noqa: SIM905
)

_SMALL = 2**16  # pixels up to which preparing to decode takes longer than decoding
_PNG_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_warnings_lock = threading.Lock()


def decode_grey(source: Source, max_pixels: int | None = None) -> tuple[Image.Image, str, tuple[str, ...]]:
    """Return the source as an upright Pillow picture of mode L, or of mode LA where a part of it is transparent; what
    messages call it; and warnings. Takes and raises what `runtime.imaging.preprocess.to_pixels` does."""
    upright, name, decoded = _decode(source, max_pixels, _grey, draft=True)
    return upright, name, (COLOUR_MAP,) if _is_colour_map(decoded) else ()


def decode_on_white(source: Source, mode: Literal["L", "RGB"], max_pixels: int | None = None) -> Image.Image:
    """Return the source as a Pillow picture of mode L or RGB, upright.

    It has the pixels of `Image.open(source).convert(mode)`, but for three: what is transparent becomes white, levels of
    more than 8 bits are scaled to 8 and not cut off, and the picture is turned as its EXIF says. Takes and raises what
    `decode_grey` does.
    """
    return _decode(source, max_pixels, functools.partial(_on_white, mode=mode), draft=False)[0]


def _decode(
    source: Source, max_pixels: int | None, convert: Callable[[Image.Image, str], Image.Image], *, draft: bool
) -> tuple[Image.Image, str, Image.Image]:
    """Read, decode, convert and turn; return also what messages call the source, and the picture as it was decoded.

    Args:
        convert: takes the decoded picture and what messages call it.
        draft: whether a large JPEG may be decoded at a fraction of its size.
    """
    name, limit = _name(source), max_pixels or MAX_PIXELS
    try:
        if isinstance(source, Image.Image | np.ndarray):
            picture = _in_memory(source, name, limit)
        else:
            data = _whole_file(source, name)
            if plain := _plain_grey_png(data, limit):
                return convert(plain, name), name, plain
            picture = _decoded(data, name, limit, draft)
        return _upright(convert(picture, name), picture.info.get("exif")), name, picture
    except ImageError:
        raise
    except Exception as error:
        raise _image_error(error, name) from error


def _name(source: Source) -> str:
    """How messages call the source; quoted, a name with line breaks or broken Unicode is printable."""
    if not isinstance(source, bytes) and isinstance(source, str | os.PathLike):  # the latter takes its time
        return quoted(os.fsdecode(source))
    return "the array" if isinstance(source, np.ndarray) else "the picture"


def _whole_file(source: str | os.PathLike[str] | bytes | BinaryIO, name: str) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        return _file_bytes(source, name)
    if getattr(source, "closed", False) is True:
        raise ImageError("unreadable", f"{name} is a stream that is closed; open it again")
    data = source.read(MAX_FILE_BYTES + 1) if hasattr(source, "read") else source
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    expected = "a path, bytes, a binary stream, a Pillow picture or an array"
    raise ImageError("not_an_image", f"expected {expected}, found {type(data).__name__}")


def _in_memory(source: Image.Image | NDArray[Any], name: str, max_pixels: int) -> Image.Image:
    """An array or a Pillow picture as a loaded Pillow picture of a bearable size."""
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    _check_size(source, name, max_pixels)
    try:
        source.load()
    except (ValueError, AttributeError, AssertionError) as error:
        # What Pillow throws at a closed file differs with the format and its version.
        file = getattr(source, "fp", None)
        if file is None or getattr(file, "closed", False):
            raise ImageError("unreadable", "the picture's file is closed; open it again, or load it first") from error
        raise
    return source


def _file_bytes(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        status = os.stat(path)
        mode, size = status.st_mode, status.st_size
        # Asked before opening: opening a FIFO waits for its writer, and opening a device may start it.
        if stat.S_ISREG(mode):
            # Without a buffer: a small file does not need one, and making it takes as long as reading the file.
            with open(path, "rb", buffering=0) as file:
                return file.read() if size <= MAX_FILE_BYTES else file.read(MAX_FILE_BYTES + 1)
    # ValueError: a name that no file can have, with a null byte or a lone half of a surrogate pair.
    except (OSError, ValueError) as error:
        found = _text_source(os.fsdecode(path).encode("utf-8", "replace"))
        if isinstance(found, bytes):
            return found
        if found:
            raise ImageError("not_an_image", f"{quoted(os.fsdecode(path), 60)} {found}") from error
        if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
            raise ImageError("missing", f"{name} does not exist; expected a picture file") from error
        raise ImageError("unreadable", f"{name} cannot be read: {error.strerror or error}") from error
    found = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
    raise ImageError("not_a_file", f"{name} is {found}; expected a regular file")


def _from_array(array: NDArray[Any], max_pixels: int) -> Image.Image:
    found, shape = f"{array.dtype} {array.shape}", array.shape
    if len(shape) == 3 and shape[0] == 1 and shape[2] not in (1, 3, 4):
        shape = shape[1:]
    if shape[2:] == (1,):
        shape = shape[:2]
    if array.dtype != np.uint8 or len(shape) < 2 or shape[2:] not in ((), (3,), (4,)) or not array.size:
        expected = "uint8 (H, W), (1, H, W), (H, W, 1), (H, W, 3) or (H, W, 4), none of them 0"
        advice = "; bring its channels to the end with np.moveaxis" if shape[:1] in ((3,), (4,)) else ""
        if array.dtype != np.uint8:
            advice = "; scale its levels to 0..255, as (array * 255).astype(np.uint8) does those of 0..1"
        raise ImageError("array", f"expected an array of {expected}; found {found}{advice}")
    if shape[0] * shape[1] > max_pixels:
        raise ImageError("too_large", f"the array is {found}; at most {max_pixels} pixels are allowed")
    return Image.fromarray(np.ascontiguousarray(array.reshape(shape)))


def _decoded(data: bytes, name: str, max_pixels: int, draft: bool) -> Image.Image:
    """Decode a whole file. The header is parsed first, and decoding goes on only if the size it states is bearable."""
    if not data:
        raise ImageError("empty", f"{name} is empty: 0 bytes")
    if len(data) > MAX_FILE_BYTES:
        raise ImageError("too_large", f"{name} holds more than {MAX_FILE_BYTES} bytes, the most that is allowed")
    kind = next((kind for kind, (offset, starts, _) in FORMATS.items() if data.startswith(starts, offset)), None)
    if kind is None:
        found = _text_source(data)
        if isinstance(found, bytes):
            return _decoded(found, name, max_pixels, draft)
        if found:
            raise ImageError("not_an_image", f"{name} {found}")
        for word, (offset, starts, *_) in PLUGINS.items():
            if data.startswith(starts, offset):
                return _decoded_by_plugin(word, data, name, max_pixels)
        raise ImageError("not_an_image", f"{name} is none of {', '.join(FORMATS)}: it begins with {data[:12]!r}")
    if kind == "WEBP" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ImageError("truncated", f"{name} is truncated: it ends before the length that its header states")
    with _hushed(kind in ("TIFF", "AVIF") or (kind == "PNG" and b"acTL" in data)):
        # A PNG is read from front to back: one as small as this cannot be read in more parts than are free.
        small = kind == "PNG" and len(data) <= FREE_READS
        file = io.BytesIO(data) if small else MeteredFile(data, name)
        picture = _plugin(FORMATS[kind][2])(file)
        _check_size(picture, name, max_pixels)
        if draft and kind == "JPEG" and min(picture.size) >= 2 * DRAFT_SIDE:
            picture.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
        if kind == "TIFF":
            check_tiles(data, picture.size, name)
        elif kind == "JPEG":
            check_scans(data, name)
        if isinstance(file, MeteredFile):
            file.metered = kind == "PNG"  # whose decoder is in Python as far as chunks go; a BMP's is, pixel by pixel
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


def _image_error(error: Exception, name: str) -> ImageError:
    """What a decoder threw at a damaged file, as an `ImageError`: Pillow's plugins promise no one type."""
    if isinstance(error, MemoryError | Image.DecompressionBombError):
        return ImageError("too_large", f"{name} does not fit in memory")
    kind = "truncated" if "truncated" in str(error).lower() else "corrupt"
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(kind, f"{name} is {kind} and cannot be decoded: {reason}")


def _check_size(picture: Image.Image, name: str, max_pixels: int) -> None:
    width, height = picture.size
    if not width * height:
        raise ImageError("empty", f"{name} has no pixels: it is {width}x{height}")
    if width * height > max_pixels:
        raise ImageError("too_large", f"{name} is {width}x{height}; at most {max_pixels} pixels are allowed")


def _grey(picture: Image.Image, name: str) -> Image.Image:
    """Luma: mode L, or LA where a part is transparent."""
    if picture.mode == "L" and not picture.info:
        return picture
    if picture.mode == "F" or picture.mode.startswith("I"):
        return _eight_bits(np.asarray(picture), name)
    if picture.mode == "LAB":
        return picture.getchannel("L")  # Pillow converts LAB only with a colour profile, and L is lightness already
    if not picture.has_transparency_data:
        return picture if picture.mode == "L" else picture.convert("L")  # Pillow would copy it; nothing here writes
    if picture.mode not in ("LA", "RGBA"):
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    alpha = picture.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return picture.convert("L")
    return Image.merge("LA", (picture.convert("L"), alpha))


def _is_colour_map(picture: Image.Image) -> bool:
    """Whether colours stand for levels, as in `plt.imsave(..., cmap="jet")`: a quarter of the picture is in colour, and
    it has three hues or more, or two hues in no more colours than a map has."""
    if picture.mode in ("L", "LA", "La", "1", "F", "LAB") or picture.mode.startswith("I"):
        return False
    colours = _colours(picture, Image.Resampling.NEAREST)
    hues = _hues(colours)
    if len(np.unique(colours.astype(np.int64) @ (1, 256, 65536))) <= 256:
        return hues >= 2
    # Noise in the colours has every hue, their mean has not.
    return hues >= 3 and _hues(_colours(picture, Image.Resampling.BOX)) >= 3


def _colours(picture: Image.Image, how: Image.Resampling) -> NDArray[np.uint8]:
    """Return the opaque ones of up to 64 x 64 colours, (N, 3)."""
    size, mode = (min(64, picture.width), min(64, picture.height)), "RGBA" if picture.has_transparency_data else "RGB"
    nearest = how is Image.Resampling.NEAREST
    sample = picture.resize(size, how).convert(mode) if nearest else picture.convert(mode).resize(size, how)
    colours = np.asarray(sample).reshape(-1, len(mode))
    return colours[colours[:, 3] > 127, :3] if mode == "RGBA" else colours


def _hues(colours: NDArray[np.uint8]) -> int:
    """Return how many sixths of the circle of hues hold 4 % of the colours or more; 0 where most are grey."""
    chroma = colours.max(axis=1, initial=0) - colours.min(axis=1, initial=255)
    strong = colours[chroma > 60]
    if not 4 * len(strong) > len(colours) > 0:
        return 0
    hues = np.asarray(Image.fromarray(strong[None]).convert("HSV"))[0, :, 0].astype(np.int64)
    # Half a sixth turned, so that red is one of them.
    held = np.bincount((hues + 21) * 6 // 256 % 6, minlength=6) >= 0.04 * len(colours)
    return int(held.sum())


def _text_source(text: bytes) -> bytes | str | None:
    """Recognise by its beginning what people give in place of a picture's path or content.

    Returns:
        The bytes in a `data:` URL; of other text what it is and what to give instead; None for anything else.
    """
    start = text[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(b"data:"):
        import base64
        from urllib.parse import unquote_to_bytes

        head, comma, content = text.strip().partition(b",")
        try:
            if not comma or not head.lower().endswith(b";base64"):
                raise ValueError
            return base64.b64decode(unquote_to_bytes(content), validate=False)
        except ValueError:
            return "is a data: URL without base64; expected data:image/png;base64,..."
    if start.startswith((b"http:", b"https:", b"ftp:", b"s3:", b"gs:")):
        return "is a URL; download it first, and give the file: curl -o picture.png URL"
    if start.startswith(b"file:"):
        return "is a file: URL; give the path alone, without file://"
    if start.startswith((b"ivborw0kggo", b"/9j/", b"r0lgod", b"uklgr")):
        return "is base64; decode it first: base64 -d text > picture.png, or put data:;base64, before"
    if start.startswith((b"{", b"[{", b"[[")) and len(text) > 1:
        return "is JSON; expected the bytes of a picture file, as curl --data-binary @picture.png sends"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        found = "an SVG drawing" if b"<svg" in start else "a page of HTML"
        return f"is {found}; expected a picture of pixels, such as PNG or JPEG"
    if b"png" in start[:6] and start[:1] in (b"\x89", b"\xef", b"\xc2"):
        advice = "send it as it is: curl --data-binary @picture.png, not -d; open(path, 'rb')"
        return f"is a PNG that was changed on its way, as if it were text; {advice}"
    return None


def _decoded_by_plugin(word: str, data: bytes, name: str, max_pixels: int) -> Image.Image:
    """Decode a format that Pillow reads with a plugin of its own package, where that is installed."""
    _, _, package, module = PLUGINS[word]
    try:
        plugin = import_module(module)
    except ImportError:
        advice = f"save it as JPEG, or pip install {package}"
        raise ImageError("not_an_image", f"{name} is {word}, which Pillow alone does not read; {advice}") from None
    if hasattr(plugin, "register_heif_opener"):
        plugin.register_heif_opener()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = Image.open(io.BytesIO(data))
        except UnidentifiedImageError:  # whose own words are an address in memory
            raise ImageError("corrupt", f"{name} begins like {word}, but is damaged or another kind of it") from None
        _check_size(picture, name, max_pixels)
        picture.load()
    return picture


def _on_white(picture: Image.Image, name: str, mode: Literal["L", "RGB"]) -> Image.Image:
    """The picture over a white page, mode L or RGB; the same object where there is nothing to do."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        return _eight_bits(np.asarray(picture), name).convert(mode)
    if picture.mode == "LAB":
        from PIL import ImageCms  # no one else needs it

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
        assert converted is not None  # it is not done in place
        return converted.convert(mode)
    if not picture.has_transparency_data:
        return picture if picture.mode == mode else picture.convert(mode)
    if picture.mode not in ("LA", "RGBA"):
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    page = Image.new(mode, picture.size, "white")
    page.paste(picture.convert(mode), mask=picture.getchannel("A"))
    return page


def _eight_bits(levels: NDArray[Any], name: str) -> Image.Image:
    """Scale deep levels: those of 16 bits by 65535, others by the smallest usual white that holds them: 1 (floats
    only), 255 or 65535."""
    low, high = float(levels.min()), float(levels.max())
    usual = (65535,) if levels.dtype.itemsize == 2 else (1, 255, 65535) if levels.dtype.kind == "f" else (255, 65535)
    whites = [white for white in usual if high <= white]
    if not whites or not low >= 0:
        raise ImageError("corrupt", f"{name} has levels from {low:g} to {high:g}; expected within 0..65535")
    scaled = np.multiply(levels, 255 / whites[0], dtype=np.float32)
    return Image.fromarray(np.rint(scaled, out=scaled).astype(np.uint8))


def _plain_grey_png(data: bytes, max_pixels: int) -> Image.Image | None:
    """Decode a small grey PNG of one data chunk, as data sets have them; None for any other, or one with a fault.

    Pillow's own reader of chunks takes longer than its decoder: with this, `predict_batch` of such files is 1.5 times
    as fast.
    """
    if len(data) < 57 or data[:16] != _PNG_HEADER or data[24:29] != b"\x08\0\0\0\0" or data[37:41] != b"IDAT":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    end = 41 + int.from_bytes(data[33:37])
    if not (
        0 < width * height <= min(_SMALL, max_pixels)
        and data[end + 4 :] == b"\0\0\0\0IEND\xaeB`\x82"
        and data[29:33] == zlib.crc32(data[12:29]).to_bytes(4)
        and data[end : end + 4] == zlib.crc32(data[37:end]).to_bytes(4)
    ):
        return None
    try:
        return Image.frombytes("L", (width, height), data[41:end], "zip", "L", 0)
    except ValueError:
        return None


def _upright(grey: Image.Image, exif: object) -> Image.Image:
    """Turn a picture as its EXIF says; what a damaged block says is ignored."""
    if not exif:
        return grey
    from PIL import ImageOps  # few files have EXIF

    upright = grey.copy()
    upright.info = {"exif": exif}
    # In place: the picture is turned by the time that Pillow writes the block anew, which an odd one does not survive.
    with _hushed(True), suppress(Exception):
        ImageOps.exif_transpose(upright, in_place=True)
    return upright


class MeteredFile(io.BytesIO):
    """A file in memory. Until `metered` is False, `read` raises ImageError, kind `corrupt`, after too many reads."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.metered = True
        self._name = name
        self._left = FREE_READS + len(data) // BYTES_A_READ

    def read(self, size: int | None = -1, /) -> bytes:
        if self.metered:
            self._left -= 1
            if self._left < 0:
                raise ImageError("corrupt", f"{self._name} is corrupt: its header is in too many small parts")
        return super().read(size)


def check_scans(jpeg: bytes, name: str) -> None:
    """Raise ImageError, kind `corrupt`, where a JPEG goes over its picture more often than encoders do."""
    # The same two bytes may also be in metadata and behind the picture; only many of them are worth a look.
    if jpeg.count(_START_OF_SCAN) > MAX_SCANS and _scans(jpeg) > MAX_SCANS:
        raise ImageError("corrupt", f"{name} is corrupt: it has more than {MAX_SCANS} scans")


def _scans(jpeg: bytes) -> int:
    """How many scans there are up to the end of the picture, counted up to one more than are allowed."""
    scans, at = 0, 2
    while scans <= MAX_SCANS and (found := _MARKER.search(jpeg, at)):
        at = found.end()
        if found[0] == b"\xff\xd9":  # the end
            break
        scans += found[0] == _START_OF_SCAN
        if found[0] != b"\xff\x01":  # the only other marker without a length
            at += max(2, int.from_bytes(jpeg[at : at + 2]))
    return scans


def check_tiles(tiff: bytes, size: tuple[int, int], name: str) -> None:
    """Raise ImageError, kind `corrupt`, where a tile of a TIFF is out of all proportion to its picture.

    Read from the bytes, as libtiff reads them, and not from Pillow, which passes over entries that libtiff does not.
    """
    largest = max(FREE_TILE, math.prod(math.ceil(side / 16) * 16 for side in size))
    stated = _tile_sides(tiff)
    if not all(stated) or math.prod(stated) > largest:  # type: ignore[arg-type]
        found = "x".join("?" if side is None else str(side) for side in stated)
        raise ImageError("corrupt", f"{name} is corrupt: its tiles are {found}, the picture is {size[0]}x{size[1]}")


def _tile_sides(tiff: bytes) -> list[int | None]:
    """The first directory's tile sides, as it orders them: none if it has strips, None for a side that is no number."""
    order = "<" if tiff[:2] == b"II" else ">"
    is_big = 43 in tiff[2:4]
    first, count, entry = ("Q", "Q", "HHQ") if is_big else ("I", "H", "HHI")
    length = struct.calcsize(order + entry)
    found: dict[int, int | None] = {}
    try:
        (start,) = struct.unpack_from(order + first, tiff, 8 if is_big else 4)
        (entries,) = struct.unpack_from(order + count, tiff, start)
        start += struct.calcsize(order + count)
        for at in range(start, start + entries * (20 if is_big else 12), 20 if is_big else 12):
            tag, kind, values = struct.unpack_from(order + entry, tiff, at)
            if tag in _TILE_TAGS and tag not in found:
                plain = kind in _FORMATS and values == 1
                found[tag] = struct.unpack_from(order + _FORMATS[kind], tiff, at + length)[0] if plain else None
    except struct.error:  # the directory is cut off: decoders see no more of it either
        pass
    return list(found.values())
