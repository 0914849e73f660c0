"""httptools' parser of requests, for a server that speaks HTTP/1.1 and nothing else."""

from __future__ import annotations

import contextlib
from typing import Protocol

import httptools


class Listener(Protocol):
    """What is told of requests, and keeps the address and the headers of the one that is being read."""

    url: bytes
    headers: list[tuple[bytes, bytes]]

    def on_message_begin(self) -> None: ...
    def on_url(self, url: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, body: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


class Parser:
    """Reads an offer of another protocol (`Upgrade: h2c`) as RFC 9110, 7.8, allows: as if it were not there.

    httptools gives up at such a request's headers, and takes what follows for the other protocol, so that its body is
    lost or, worse, read as the next request. Here the headers are given once more, less the offer, to a fresh parser.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._offered = False  # the request that is being read offers another protocol
        self.on_message_begin = listener.on_message_begin
        self.on_url = listener.on_url
        self.on_header = listener.on_header
        self.on_body = listener.on_body
        self._renew()

    def feed_data(self, data: bytes) -> None:
        """Read on.

        Raises:
            httptools.HttpParserError: this is no HTTP, or the listener objects.
        """
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_offer() + data[upgrade.args[0] :]
                self._renew()
            else:
                return

    def get_http_version(self) -> str:
        return str(self._parser.get_http_version())

    def get_method(self) -> bytes:
        return bytes(self._parser.get_method())

    def should_keep_alive(self) -> bool:
        return bool(self._parser.should_keep_alive())

    def should_upgrade(self) -> bool:
        return False

    # What httptools calls

    def on_headers_complete(self) -> None:
        if self.get_method() == b"CONNECT":  # asks for a tunnel even without an offer
            raise httptools.HttpParserError("this is no proxy")
        self._offered = self._parser.should_upgrade()
        if not self._offered:
            self._listener.on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._offered:
            self._listener.on_message_complete()

    def _renew(self) -> None:
        self._offered = False
        self._parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(AttributeError):  # httptools before 0.6.3
            # As uvicorn has it: what follows a request with `Connection: close` is passed over.
            self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _head_without_offer(self) -> bytes:
        lines = [b"%s %s HTTP/%s" % (self.get_method(), self._listener.url, self.get_http_version().encode())]
        lines += [b"%s: %s" % header for header in self._listener.headers if header[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"
