"""The page at `/`: static files of the package, which may load nothing from anywhere else."""

from __future__ import annotations

from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

import runtime

FOLDER = Path(runtime.__file__).parent / "page"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class PageFiles:
    """The files, each with the headers above."""

    def __init__(self) -> None:
        self._files = StaticFiles(directory=FOLDER, html=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["method"] not in ("GET", "HEAD"):
            await self._files.get_response(self._files.get_path(scope), {**scope, "method": "GET"})  # or there is none
            raise HTTPException(405)
        # A part of a small file is of no use, and Starlette answers a damaged Range in its own words.
        whole = [header for header in scope["headers"] if header[0] != b"range"]
        await self._files({**scope, "headers": whole}, receive, send_with_headers)
