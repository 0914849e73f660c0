"""How much one server takes on: counts, bytes and seconds. What goes over a limit is refused with a 4xx or 503."""

import asyncio
import zlib
from dataclasses import dataclass
from typing import Self

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

from runtime.errors import quoted
from runtime.imaging.load import MAX_PIXELS

RETRY_AFTER = {"Retry-After": "1"}  # seconds; a full queue of the slowest model that ships empties sooner
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a server."""

    max_batch: int = 64  # images that are run together
    max_wait: float = 0.002  # seconds for which an image waits for others, where there are others
    max_queue: int = 512  # images accepted and not yet answered; over it, 503
    max_body: int = 2**24  # bytes of one body, also once it is decompressed; over it, 413
    max_pixels: int = MAX_PIXELS  # of one image; over it, 413
    max_connections: int = 2048  # open ones; over it, the HTTP server answers 503
    read_seconds: float = 10.0  # that a client may take to send a body; over it, 408
    keep_alive_seconds: int = 75  # for which a connection may stay open between two requests
    drain_seconds: int = 3  # that accepted requests may take once the server has been told to stop

    @property
    def max_held(self) -> int:
        """Bytes of all bodies held at once; over it, 503. The longest one fits in beside its compressed form."""
        return max(2**28, 2 * self.max_body)


@dataclass
class Usage:
    """What the requests under way hold in all. Belongs to the event loop's thread."""

    limits: Limits
    images: int = 0  # accepted and not yet answered
    held: int = 0  # bytes of their bodies


class Reservation:
    """What one request holds; a context manager, which gives all of it back at the end."""

    __slots__ = ("_held", "_images", "_usage")

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._held = self._images = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._usage.held -= self._held
        self._usage.images -= self._images

    def add_images(self, count: int) -> None:
        """Take places in the queue, or raise 503 where there are not as many left."""
        usage, limit = self._usage, self._usage.limits.max_queue
        if usage.images + count > limit:
            raise HTTPException(
                503, f"the queue is full: {usage.images} images wait, at most {limit} may; try again", RETRY_AFTER
            )
        usage.images += count
        self._images += count

    def add_bytes(self, count: int) -> None:
        """Count more bytes of a body, or raise 503 where too many are held already."""
        usage = self._usage
        if usage.held + count > usage.limits.max_held:
            raise HTTPException(
                503, f"the server holds {usage.held} bytes of other requests, and has no room; try again", RETRY_AFTER
            )
        usage.held += count
        self._held += count


async def read_body(request: Request, limits: Limits, reservation: Reservation) -> bytes:
    """Return the whole body, decompressed.

    Raises:
        HTTPException: 413, it is too long; 408, it took too long; 503, the server holds too much already; 400, the
            HTTP server gave only a part of it; or as `decompressed`.
    """
    too_long = HTTPException(413, f"the body is too long: at most {limits.max_body} bytes are taken")
    stated = int(request.headers.get("content-length", 0))
    if stated > limits.max_body:
        raise too_long
    chunks: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(limits.read_seconds):
            async for chunk in request.stream():
                length += len(chunk)
                if length > limits.max_body:
                    raise too_long
                reservation.add_bytes(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        raise HTTPException(
            408, f"the request's body took longer than {limits.read_seconds:g} seconds", {"Connection": "close"}
        ) from None
    if length < stated:  # uvicorn takes the body of a request that offers another protocol for that protocol
        raise HTTPException(
            400,
            "the body of a request with an Upgrade header is not read; send it as plain HTTP/1.1, without the header",
        )
    body = b"".join(chunks)
    encoding = request.headers.get("content-encoding")
    if encoding is None:
        return body
    chunks.clear()
    plain = await run_in_threadpool(decompressed, body, encoding, limits.max_body)
    reservation.add_bytes(len(plain))
    return plain


def decompressed(body: bytes, encoding: str, max_body: int) -> bytes:
    """Return a body without its Content-Encoding.

    Raises:
        HTTPException: 415, the encoding is not known; 400, the body is damaged; 413, more than `max_body` bytes are
            in it.
    """
    encoding = encoding.strip().lower()
    if encoding == "identity":
        return body
    if encoding not in _WINDOW_BITS:
        raise HTTPException(415, f"the content encoding {quoted(encoding)} is not known; expected gzip or deflate")
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = stream.decompress(body, max_body + 1)
    except zlib.error as error:
        raise HTTPException(400, f"the body is not {encoding}: {error}") from error
    if len(plain) > max_body:
        raise HTTPException(413, f"the body is too long: at most {max_body} bytes are taken, once decompressed")
    if not stream.eof or stream.unused_data:
        raise HTTPException(400, f"the body is not one whole {encoding} stream")
    return plain
