"""`POST /predict`: a picture in, what `runtime predict --json` says of it out."""

from __future__ import annotations

import functools
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import parse_qsl

import numpy as np
import numpy.typing as npt
import orjson

from runtime.errors import quoted
from runtime.images import Fit, Invert, Pixels, to_pixels
from runtime.prediction import as_dict, ranked
from runtime.serving.refusal import Refusal
from runtime.serving.reply import Reply

_QUICK_BYTES, _QUICK_PIXELS = 2**14, 2**12
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Wish:
    """The query of a `/predict`: which model, and what to answer."""

    model: str | None = None
    topk: int = 5
    invert: Invert = "auto"
    fit: Fit = "auto"
    pixels: bool = False


@functools.lru_cache(maxsize=256)  # programs ask the same again and again
def read_wish(query: bytes) -> Wish:
    """Parse the query string.

    Raises:
        Refusal: 400, a parameter is unknown, given twice, or has a value that it cannot have.
    """
    found: dict[str, Any] = {}
    readers: dict[str, Callable[[str], Any]] = {
        "model": str,
        "topk": _count,
        "invert": lambda value: _one_of(value, get_args(Invert)),
        "fit": lambda value: _one_of(value, get_args(Fit)),
        "pixels": lambda value: _SWITCH[_one_of(value, tuple(_SWITCH))],
    }
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError as error:
        raise Refusal(400, "the query cannot be read; expected name=value&name=value") from error
    for name, value in pairs:
        if name not in readers:
            raise Refusal(400, f"the parameter {quoted(name)} is not known; expected one of {', '.join(readers)}")
        if name in found:
            raise Refusal(400, f"the parameter {name!r} is given twice")
        try:
            found[name] = readers[name](value)
        except ValueError as error:
            raise Refusal(400, f"the parameter {name} cannot be {quoted(value)}; expected {error}") from error
    return Wish(**found)


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 0 < len(value) < 7 and int(value) > 0):
        raise ValueError("a whole number from 1")
    return int(value)


def _one_of(value: str, words: tuple[str, ...]) -> Any:
    if value not in words:
        raise ValueError("one of " + ", ".join(words))
    return value


def is_quick(picture: bytes) -> bool:
    """Whether decoding takes less time than handing it to another thread: a PNG of at most 64x64, as its header has it.

    It is then decoded in the event loop's own thread. The batch's thread would take
    Python's lock from the loop at every picture: in pairs measured in turn, a tenth fewer requests were answered so.
    """
    if len(picture) > _QUICK_BYTES or len(picture) < 24 or not picture.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"):
        return False
    width, height = struct.unpack_from(">II", picture, 16)
    return bool(width * height <= _QUICK_PIXELS)


@dataclass(slots=True, eq=False)
class PictureJob:
    """One picture on its way through a batch.

    Attributes:
        picture: the file; once `decode` has been called, its pixels.
        source: what the answer calls it.
        wish: what the query asks for.
        extra: what the answer says beside the prediction: model and device.
        labels: the K classes.
        max_pixels: how large the picture may be.
        gone: whether the client has left.
        arrived: `time.perf_counter()` when the body was there.
        rows: one picture is one row of a batch.
    """

    picture: bytes | Pixels
    source: str
    wish: Wish
    extra: dict[str, str]
    labels: tuple[str, ...]
    max_pixels: int
    gone: Callable[[], bool]
    arrived: float
    rows: int = 1

    def decode(self) -> Pixels:
        """Turn the file into pixels. Raises ImageError."""
        if isinstance(self.picture, bytes):
            wish = self.wish
            self.picture = to_pixels(self.picture, invert=wish.invert, fit=wish.fit, max_pixels=self.max_pixels)
        return self.picture

    def images(self) -> npt.NDArray[np.uint8]:
        """Return uint8 (1, 1, 28, 28). Raises ImageError."""
        return self.decode().array[None, None]

    def answer(self, _logits: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32]) -> Reply:
        """Return the reply; each array float32 (1, K)."""
        pixels = self.decode()
        prediction = ranked(self.labels, probabilities[0], pixels.inverted, self.wish.topk)
        document = as_dict(self.source, prediction) | self.extra
        document["milliseconds"] = round(1000 * (time.perf_counter() - self.arrived), 3)
        if self.wish.pixels:
            document["pixels"] = pixels.array.tolist()
        return Reply(orjson.dumps(document))
