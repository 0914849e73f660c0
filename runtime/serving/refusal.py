"""A request that is not answered as asked: the status, one sentence, and headers that belong to it."""

from __future__ import annotations

import json

from runtime.errors import FashionZooError, ImageError

RETRY_SECONDS = 1  # a full queue of the slowest model that ships empties sooner

# What is wrong with a picture -> HTTP's word for it. Everything else is a 400.
_STATUS = {"too_large": 413, "not_an_image": 415}


class Refusal(FashionZooError):
    """Raised anywhere while a request is served; the app sends it as `{"error": sentence}`."""

    def __init__(self, status: int, sentence: str, *, kind: str | None = None, allow: str | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.kind = kind
        self.headers: list[tuple[bytes, bytes]] = []
        if status == 503:
            self.headers.append((b"retry-after", str(RETRY_SECONDS).encode()))
        if allow is not None:
            self.headers.append((b"allow", allow.encode()))

    def body(self) -> bytes:
        """Return the JSON that tells the client."""
        kind = {} if self.kind is None else {"kind": self.kind}
        return json.dumps({"error": str(self)} | kind).encode()

    def headers_and_body(self) -> bytes:
        """Return what follows the status line where the connection ends with this answer."""
        body = self.body()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *self.headers,
        ]
        return b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n" + body


class Disconnected(Exception):
    """The client has left: nobody is there to be answered."""


def picture_refused(error: ImageError) -> Refusal:
    """Return what a picture that cannot be read is answered with."""
    return Refusal(_STATUS.get(error.kind, 400), str(error), kind=error.kind)
