"""The body of a request: whole, within limits, and decompressed."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable

from starlette.types import Receive, Scope

from runtime.errors import quoted
from runtime.serving.limits import Limits
from runtime.serving.refusal import Disconnected, Refusal

DISCARD_SECONDS = 1.0  # for how long what is too long is still read
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header of that name, in lower case; Starlette's own look-up decodes all of them."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


async def read_body(scope: Scope, receive: Receive, limits: Limits, hold: Callable[[int], None]) -> bytes:
    """Return the whole body; `hold` is told of its bytes as they come, and may refuse them.

    How long that may take is `runtime.serving.connection`'s to say.

    Raises:
        Refusal: 413, it is too long.
        Disconnected: the client left before its end.
    """
    stated = header(scope, b"content-length")
    if stated is not None and int(stated) > limits.max_body:
        raise await _too_long(scope, receive, limits)
    message = await receive()
    parts: list[bytes] = []
    length = 0
    while message["type"] == "http.request":
        part: bytes = message["body"]
        length += len(part)
        if length > limits.max_body:
            parts.clear()
            raise await _too_long(scope, receive, limits)
        hold(len(part))
        parts.append(part)
        if not message["more_body"]:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        message = await receive()
    raise Disconnected


async def _too_long(scope: Scope, receive: Receive, limits: Limits) -> Refusal:
    """Read on for a moment, so that a client that is still sending will see the answer, and return the refusal."""
    refusal = Refusal(413, f"the body is too long: at most {limits.max_body} bytes are taken")
    refusal.headers.append((b"connection", b"close"))
    if header(scope, b"expect") is None:  # who asks first has sent nothing, and is not told to go on
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while (await receive()).get("more_body"):
                    pass
    return refusal


def decompressed(body: bytes, encoding: str, max_body: int) -> bytes:
    """Return a body without its Content-Encoding.

    Raises:
        Refusal: 415, the encoding is not known; 400, the body is damaged; 413, more than `max_body` bytes are in it.
    """
    encoding = encoding.strip().lower()
    if encoding == "identity":
        return body
    if encoding not in _WINDOW_BITS:
        raise Refusal(415, f"the content encoding {quoted(encoding)} is not known; expected gzip, deflate or none")
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = stream.decompress(body, max_body + 1)
    except zlib.error as error:
        raise Refusal(400, f"the body is no {encoding}: {error}") from error
    if len(plain) > max_body:
        raise Refusal(413, f"the body is too long: at most {max_body} bytes are taken, once decompressed")
    if not stream.eof or stream.unused_data:
        raise Refusal(400, f"the body is not one whole {encoding} stream")
    return plain
