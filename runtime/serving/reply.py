"""An answer on its way to the client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from runtime.strict_json import to_json

JSON = b"application/json"
_CLOSE = b"connection", b"close"


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, body, and what the headers say of it."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()

    async def send(self, send: Send) -> None:
        """Send it, by ASGI's two messages."""
        await send({"type": "http.response.start", "status": self.status, "headers": self._all_headers()})
        await send({"type": "http.response.body", "body": self.body})

    def write(self, cycle: RequestResponseCycle) -> None:
        """Send it in one piece: what uvicorn does on both messages, less the checks of what others may have written."""
        if cycle.disconnected:
            return
        headers = self._all_headers()
        if _CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            headers.append(_CLOSE)
        lines = b"".join([b"%s: %s\r\n" % header for header in (*cycle.default_headers, *headers)])
        body = b"" if cycle.scope["method"] == "HEAD" else self.body
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(b"%s%s\r\n%s" % (STATUS_LINE[self.status], lines, body))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def _all_headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            (b"x-content-type-options", b"nosniff"),
            *self.headers,
        ]


def json_reply(document: Any) -> Reply:
    """Return a document as a reply."""
    return Reply(to_json(document).encode())
