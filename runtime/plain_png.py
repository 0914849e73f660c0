"""A short way through the plainest PNGs, those of data sets: all others are for `runtime.decoding`.

8-bit grey in one chunk, nothing beside it. Pillow's reader spends 0.1 ms on preparing for everything that a PNG may be,
and holds Python's lock meanwhile; its decoder, used here alone, takes a tenth of that. Whatever is odd goes the long
way, and gets its error there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

SMALL = 2**16  # pixels up to which preparing to decode takes longer than decoding
PNG_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_FILTERS = 5  # PNG's own, numbered from 0


def plain_grey_png(data: bytes, max_pixels: int) -> Image.Image | None:
    """Decode one PNG; None if it is not of the plainest."""
    size = _size(data)
    if size is None or not 0 < size[0] * size[1] <= min(SMALL, max_pixels):
        return None
    compressed = _compressed_rows(data)
    if compressed is None:
        return None
    try:
        return Image.frombytes("L", size, compressed, "zip", "L", 0)
    except ValueError:
        return None


def filtered_rows(data: bytes, width: int, height: int) -> bytes | None:
    """Return what `unfiltered` takes, the rows as PNG stores them; None if it is not of the plainest, or of that size.

    A row is the number of its filter, and a byte a pixel.
    """
    length = height * (1 + width)
    # zlib makes rows a few bytes longer at worst. What is longer is odd, and its checksum would take its time.
    if _size(data) != (width, height) or len(data) > 57 + length + 64:
        return None
    compressed = _compressed_rows(data)
    if compressed is None:
        return None
    inflater = zlib.decompressobj()
    try:
        rows = inflater.decompress(compressed, length + 1)  # no further: it may hold a thousand times as much
    except zlib.error:
        return None
    return rows if inflater.eof and len(rows) == length and max(rows[:: 1 + width]) < _FILTERS else None


def unfiltered(pictures: Sequence[bytes], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return the pixels of pictures of one size: uint8 (N, height, width), for N from 1.

    Most of the time that a small picture takes is spent before its first pixel, so Pillow gets all of them as one tall
    picture. A filter looks at the row above, which is to be black above a picture's first: such a row is put there.
    """
    black = bytes(1 + width)
    tall = zlib.compress(black + black.join(pictures), 0)  # stored, since Pillow's decoder takes nothing but zlib
    picture = Image.frombytes("L", (width, len(pictures) * (1 + height)), tall, "zip", "L", 0)
    levels = np.frombuffer(picture.tobytes(), np.uint8).reshape(len(pictures), 1 + height, width)
    return levels[:, 1:].copy()


def _size(data: bytes) -> tuple[int, int] | None:
    """Return width and height, as the header has them; None if it is not of the plainest."""
    if len(data) < 57 or data[:16] != PNG_HEADER or data[24:29] != b"\x08\0\0\0\0" or data[37:41] != b"IDAT":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _compressed_rows(data: bytes) -> bytes | None:
    """Return the zlib stream of a file that has a size; None if anything in it is not as it should be."""
    end = 41 + int.from_bytes(data[33:37], "big")
    if data[end + 4 :] != b"\0\0\0\0IEND\xaeB`\x82":
        return None
    if int.from_bytes(data[29:33], "big") != zlib.crc32(data[12:29]):
        return None
    if int.from_bytes(data[end : end + 4], "big") != zlib.crc32(data[37:end]):
        return None
    return data[41:end]
