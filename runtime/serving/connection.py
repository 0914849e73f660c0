"""One connection: uvicorn's HTTP protocol, which here distrusts the client.

Added to it: limits on the length and the duration of a request's head and body, on the number of connections, JSON for
what is refused before it is a request, an answer to whoever has only closed their half, and, once the server stops, a
moment in which requests that are already on their way are still answered.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from runtime.serving.clock import Clock
from runtime.serving.half_closed import HalfClosed
from runtime.serving.parser import Parser
from runtime.serving.refusal import Refusal
from runtime.serving.service import Service

LINGER_SECONDS = 1.0  # for how long a refused client may go on sending; closed sooner, it would miss the answer
LAST_CALL_SECONDS = 0.3  # for how long an idle connection stays open once the server stops
MAX_AHEAD = 64  # requests that a client may send without waiting for an answer


class Connection(HttpToolsProtocol):
    """What uvicorn makes for each connection; `app` is a `runtime.serving.app.App`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = Parser(self)  # type: ignore[assignment]
        self._service: Service = self.app.service
        self._limits = self._service.limits
        self._in_head = True  # or before it
        self._begun = False
        self._head_bytes = 0  # since the last byte of a body: of a head, a chunk's head, or trailers
        self._in_body = False
        self._refusal: Refusal | None = None
        self._owed: Refusal | None = None  # its turn comes when the requests before it have been answered
        self._before: Any = None  # the cycle before uvicorn's `cycle`
        self._lingering = False
        self._half_closed: HalfClosed | None = None
        self._stopping = False
        self._reading = Clock(self.loop, self._limits.read_seconds, self._too_slow)
        self._writing = Clock(self.loop, self._limits.read_seconds, lambda: self.transport.abort())

    # What the app asks

    def gone(self) -> bool:
        """Whether the client has left. May be asked from any thread."""
        return self.transport.is_closing() or (self._half_closed is not None and self._half_closed.gone())

    def abandon(self) -> None:
        """Close, since nobody is there to be answered."""
        if self._lingering:  # refused, which the client may still read
            return
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.close()

    # What the transport tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            self._refuse(Refusal(503, f"{self._limits.max_connections} connections are open already; try again"))
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        if self._lingering or self._owed is not None:
            return
        if self._in_head or self._in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        # A head may end in the same piece of data in which a long body begins; the whole piece is counted only if not.
        if (self._in_head or self._in_body) and self._head_bytes > self._limits.max_head:
            self._refuse(self._head_too_long())
            return
        self._watch()
        # uvicorn stops the clock of an idle connection at any byte, and knows no byte that begins no request: a stray
        # line's end, or the end of a body whose answer came before it.
        if self._idle() and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def eof_received(self) -> bool | None:  # type: ignore[override]
        if self._lingering or self.transport.is_closing():
            return None
        if self._owed is not None:
            return True
        if self._in_head and self._begun:
            self._refuse(Refusal(400, "the connection was closed before the end of the request's headers"))
            return True
        if self._all_answered():
            return None
        if self._in_body:
            self._refuse(Refusal(400, "the connection was closed before the end of the body"))
            return True
        # Closed or half-closed look the same from here. A closed one answers whatever it is sent with a reset, by which
        # `gone` knows it, and a half-closed one takes this for what it is: "go on".
        self.cycle.keep_alive = False
        if self.scope["http_version"] == "1.1" and not self.cycle.response_started:
            self._half_closed = HalfClosed(self.transport)
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._reading.stop()
        self._writing.stop()
        if self._half_closed is not None:
            self._half_closed.close()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Called when the client does not take what it is sent; it, too, has only so long."""
        super().pause_writing()
        self._writing.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writing.stop()

    # What the parser tells

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # no trailer is a header
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self._limits.max_head:
            self._refusal = self._head_too_long()
            raise httptools.HttpParserError("the head is too long")
        if len(self.pipeline) >= MAX_AHEAD:
            self._refusal = Refusal(400, f"more than {MAX_AHEAD} requests were sent ahead of their answers")
            raise httptools.HttpParserError("too many requests")
        self._in_head, self._begun, self._head_bytes, self._in_body = False, False, 0, True
        if self.expect_100_continue and self.parser.get_http_version() != "1.1":  # before it, there was no such thing
            self.expect_100_continue = False
        self._before = None if self._all_answered() else self.cycle
        super().on_headers_complete()
        self.scope["state"].update(connection=self, cycle=self.cycle)
        if self._stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._in_body, self._head_bytes = False, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn where the parser gave up."""
        self._refuse(self._refusal or Refusal(400, "this is not a valid HTTP/1.1 request"))

    def on_response_complete(self) -> None:
        was_last = not self.pipeline
        super().on_response_complete()
        if was_last and self._owed is not None:
            self._answer_here(self._owed)

    # What the server tells

    def shutdown(self) -> None:
        """Answer what has been sent and what is on its way, then close."""
        self._stopping = True
        if self._all_answered():
            self.loop.call_later(LAST_CALL_SECONDS, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _close_if_idle(self) -> None:
        if self._all_answered():
            self.transport.close()

    # Refusing

    def _head_too_long(self) -> Refusal:
        return Refusal(431, f"the request's headers are too long: at most {self._limits.max_head} bytes are taken")

    def _all_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _idle(self) -> bool:
        """Whether the client may send its next request, and has not begun to."""
        busy = self._in_head or self._in_body or self._lingering or self.transport.is_closing()
        return not busy and self._all_answered()

    def _watch(self) -> None:
        """Start the clock when the client owes something, stop it when it does not."""
        if self._lingering or self._owed is not None or not (self._in_head or self._in_body):
            self._reading.stop()
        else:
            self._reading.start()

    def _too_slow(self) -> None:
        if self._in_head and not self._begun:  # nothing was asked
            self.transport.close()
            return
        what = "headers" if self._in_head else "body"
        self._refuse(Refusal(408, f"the request's {what} took longer than {self._limits.read_seconds:g} seconds"))

    def _refuse(self, refusal: Refusal) -> None:
        """Read no more; have the refusal sent when its turn comes."""
        if self._lingering or self._owed is not None or self.transport.is_closing():
            return
        if self._in_body:
            self._refuse_body(refusal)
        elif self._all_answered():
            self._answer_here(refusal)
        else:
            self._owed = refusal
        self._watch()

    def _refuse_body(self, refusal: Refusal) -> None:
        if self.cycle.response_started:  # and perhaps completed: neither can be taken back
            self.abandon()
        elif self.pipeline:  # it is the last there, and not begun
            self.pipeline.popleft()
            self.cycle, self._owed = self._before, refusal
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._answer_here(refusal)

    def _answer_here(self, refusal: Refusal) -> None:
        """Answer without the app; then read on for a moment, and close."""
        if self.transport.is_closing():
            return
        self._owed, self._lingering = None, True
        self.transport.write(STATUS_LINE[refusal.status] + refusal.headers_and_body())
        self._service.metrics.refused(refusal.status)
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)
