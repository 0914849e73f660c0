"""Pictures of every kind, good and bad, made from images of the data set: what several tests read."""

import io
import signal
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, features

from runtime.errors import ImageError
from runtime.imaging.load import Source
from runtime.imaging.preprocess import to_pixels

Grey = npt.NDArray[np.uint8]

KINDS = {"missing", "not_a_file", "unreadable", "empty", "not_an_image", "truncated", "corrupt", "too_large"}
# Pillow's name of every format, with how to save it; the lossless ones give back every pixel.
LOSSLESS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "gif": {"format": "GIF"},
    "bmp": {"format": "BMP"},
    "ppm": {"format": "PPM"},
    "tiff": {"format": "TIFF"},
    "tiff_lzw": {"format": "TIFF", "compression": "tiff_lzw"},
    "webp": {"format": "WEBP", "lossless": True},
}
LOSSY: dict[str, dict[str, Any]] = {
    "jpeg": {"format": "JPEG", "quality": 95},
    "jpeg_progressive": {"format": "JPEG", "quality": 95, "progressive": True},
    "webp_lossy": {"format": "WEBP", "quality": 95},
    "avif": {"format": "AVIF", "quality": 95},
}
EVERY = {name: how for name, how in {**LOSSLESS, **LOSSY}.items() if name != "avif" or features.check("avif")}
# EXIF orientation -> how a camera that was turned so stores an upright picture.
STORED = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def encoded(picture: Image.Image, **how: Any) -> bytes:
    """The content of a file of this picture: a PNG, if no other format is asked for."""
    file = io.BytesIO()
    picture.save(file, **{"format": "PNG"} | how)
    return file.getvalue()


def difference(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Mean absolute difference, in grey levels."""
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())


def kind_of(source: Source, **options: Any) -> str:
    """The kind of the error that this source must give; its message must be one printable line."""
    with pytest.raises(ImageError) as caught:
        to_pixels(source, **options)
    message = str(caught.value)
    assert message.isprintable(), message
    return caught.value.kind


def deep_files(image: Grey) -> dict[str, bytes]:
    """The image in 16 bits and in floats, each level where it belongs on the deeper scale."""
    sixteen = image.astype(np.uint16) * 257
    return {
        "16-bit PNG": encoded(Image.fromarray(sixteen), format="PNG"),
        "16-bit TIFF": encoded(Image.fromarray(sixteen), format="TIFF"),
        "16-bit TIFF, big-endian": encoded(Image.fromarray(sixteen.astype(">u2")), format="TIFF"),
        "16-bit PGM": b"P5\n28 28\n65535\n" + sixteen.astype(">u2").tobytes(),
        "32-bit TIFF": encoded(Image.fromarray(sixteen.astype(np.int32)), format="TIFF"),
        "32-bit TIFF of 8-bit levels": encoded(Image.fromarray(image.astype(np.int32)), format="TIFF"),
        "float TIFF, 0..1": encoded(Image.fromarray(image.astype(np.float32) / 255), format="TIFF"),
        "float TIFF, 0..255": encoded(Image.fromarray(image.astype(np.float32)), format="TIFF"),
    }


def transparent_files(image: Grey) -> dict[str, bytes]:
    """A garment cut out of its photograph, whatever colour lies under the transparent part."""
    photo, cut = 255 - image, np.where(image > 0, 255, 0).astype(np.uint8)
    under = np.where(image > 0, photo, 90).astype(np.uint8)
    rgba = Image.merge("RGBA", [Image.fromarray(channel) for channel in (under, under, under, cut)])
    key = np.where(image > 0, np.where(photo == 90, 91, photo), 90).astype(np.uint8)
    alphas = bytes(0 if level == 90 else 255 for level in range(256))
    indexed = Image.fromarray(key).convert("P")
    return {
        "RGBA PNG": encoded(rgba, format="PNG"),
        "RGBA WEBP": encoded(rgba, format="WEBP", lossless=True),
        "RGBA TIFF": encoded(rgba, format="TIFF"),
        "LA PNG": encoded(rgba.convert("LA"), format="PNG"),
        "grey PNG with a transparent level": encoded(Image.fromarray(key), format="PNG", transparency=90),
        "RGB PNG with a transparent colour": encoded(
            Image.fromarray(key).convert("RGB"), format="PNG", transparency=(90, 90, 90)
        ),
        "palette PNG with a transparent entry": encoded(indexed, format="PNG", transparency=90),
        "palette PNG with an alpha for each entry": encoded(indexed, format="PNG", transparency=alphas),
        "GIF with a transparent entry": encoded(indexed, format="GIF", transparency=90),
    }


def photograph(image: Grey, rng: np.random.Generator) -> bytes:
    """Enlarged, in colour, dark on a light page and off its centre, JPEG, and stored as a turned camera does."""
    side = int(rng.integers(160, 400))
    garment = Image.fromarray(255 - image).resize((side, side), Image.Resampling.BICUBIC)
    width, height = (side + rng.integers(10, 300, 2)).tolist()
    page = Image.new("L", (width, height), 255)
    page.paste(garment, tuple(rng.integers(0, (width - side + 1, height - side + 1)).tolist()))
    tint = rng.uniform(0.9, 1.0, 3)
    colours = Image.merge("RGB", [page.point([int(level * share) for level in range(256)]) for share in tint])
    orientation = int(rng.choice(list(STORED)))
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(colours if turn is None else colours.transpose(turn), format="JPEG", quality=85, exif=exif)


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Fail, rather than hang, where a read waits for ever."""

    def fail(*_: object) -> None:
        raise TimeoutError(f"still waiting after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bombs() -> dict[str, bytes]:
    """Small files whose headers promise gigapixels."""
    blank = Image.new("L", (9, 9))
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    bmp, gif = bytearray(encoded(blank, format="BMP")), bytearray(encoded(blank, format="GIF"))
    jpeg, tiff = encoded(blank, format="JPEG"), encoded(blank, format="TIFF")
    bmp[18:26] = struct.pack("<ii", 50_000, 50_000)
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    entry = "<HHII"
    for tag in (256, 257):
        tiff = tiff.replace(struct.pack(entry, tag, 4, 1, 9), struct.pack(entry, tag, 4, 1, 50_000))
        tiff = tiff.replace(struct.pack("<HHIHH", tag, 3, 1, 9, 0), struct.pack("<HHIHH", tag, 3, 1, 50_000, 0))
    vp8x = b"VP8X" + struct.pack("<IB3x", 10, 0) + (16_382).to_bytes(3, "little") * 2
    return {
        "PNG": png + png_chunk(b"IDAT", zlib.compress(bytes(10_000))) + png_chunk(b"IEND", b""),
        "BMP": bytes(bmp),
        "GIF": bytes(gif),
        "JPEG": jpeg.replace(struct.pack(">BHH", 8, 9, 9), struct.pack(">BHH", 8, 65_000, 65_000)),
        "TIFF": tiff,
        "PPM": b"P5\n50000 50000\n255\n" + bytes(100),
        "WEBP": b"RIFF" + struct.pack("<I", 4 + len(vp8x)) + b"WEBP" + vp8x,
    }
