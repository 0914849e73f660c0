"""What a picture file may cost before its pixels are decoded, bounded for every format at once.

Pillow checks sizes and lengths. It does not check how many parts a file is in: a JPEG may hold four million comments of
no letters, each an object of its own, and a header's comment is read letter by letter. Nor does it check the tiles of a
TIFF, each of which is decoded into a buffer of the size that the file states, however small the picture is, nor how
often a JPEG goes over its picture: ten bytes tell the decoder to do so once more.
"""

from __future__ import annotations

import io
import math
import re
import struct

from runtime.errors import ImageError

FREE_READS = 2**14  # of any file
BYTES_A_READ = 128  # a long file is read in parts of this many bytes on average, or of more: a GIF's are of 128
FREE_TILE = 2**24  # pixels of a tile that any picture may have; a picture in one tile may have a larger one
MAX_SCANS = 100  # of a JPEG; encoders make one, or for a progressive picture about ten
_TILE_TAGS = {322, 323}  # width and length
_FORMATS = {3: "H", 4: "I"}  # of a TIFF's numbers, by type: SHORT and LONG

_START_OF_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # but for those inside a scan: stuffing and restarts


class MeteredFile(io.BytesIO):
    """A file in memory that may be read only so often until `metered` is set to False.

    Args:
        data: the whole file.
        name: what messages call it.

    `read` raises ImageError, kind `corrupt`, when the file has been read in too many parts.
    """

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
    """Check that a JPEG goes over its picture no more often than encoders do.

    Raises:
        ImageError: it does; kind `corrupt`.
    """
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
    """Check that no tile of a TIFF is out of all proportion to its picture, of that width and height.

    Read from the bytes, as libtiff reads them, and not from Pillow, which passes over entries that libtiff does not.

    Raises:
        ImageError: one is; kind `corrupt`.
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
