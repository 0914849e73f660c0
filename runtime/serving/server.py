"""A server from its socket to its end: bind, open the models, warm them up, answer, drain."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence

import uvicorn

from runtime.classifier import Classifier
from runtime.console import note
from runtime.errors import FashionZooError
from runtime.serving.app import App
from runtime.serving.connection import Connection
from runtime.serving.descriptors import with_room
from runtime.serving.limits import Limits
from runtime.serving.service import Service

BACKLOG = 2048  # connections that the system holds for us
COLLECT_AFTER = 5_000  # new objects until Python's collector looks for cycles among them
LEAVE_SECONDS = 0.3  # for which threads may finish once all is answered


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 is any free one.

    Raises:
        FashionZooError: the port is taken, or the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # the latter for a name that is none, such as 127.0.0..1
        reason = getattr(error, "strerror", None) or error
        raise FashionZooError(f"cannot listen on {host}: {reason}; expected an address of this machine") from error
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        hint = "stop what uses it, or choose another with --port" if error.errno == errno.EADDRINUSE else "try another"
        raise FashionZooError(f"cannot listen on {host}, port {port}: {error.strerror}; {hint}") from error
    return listening


def url_of(listening: socket.socket) -> str:
    """Return the address that a browser takes."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve_until_stopped(
    listening: socket.socket,
    classifiers: Sequence[Classifier],
    limits: Limits,
    *,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Answer requests until SIGTERM or SIGINT, then what has been accepted, and return.

    Args:
        listening: from `bind`; it is closed at the end.
        classifiers: the models, open.
        limits: how much to take on.
        on_ready: called once every model is warm, from another thread.

    Raises:
        FashionZooError: a model could not be warmed up.
    """
    roomy = with_room(limits)
    if roomy.max_connections < limits.max_connections:
        note(f"at most {roomy.max_connections} connections at once: more open files need a higher `ulimit -Hn`")
    service = Service(classifiers, roomy)
    server = _Server(
        uvicorn.Config(
            App(service),
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=int(limits.idle_seconds),
            timeout_graceful_shutdown=limits.drain_seconds,  # type: ignore[arg-type]  # it is passed on to asyncio
        ),
        service,
        on_ready,
    )
    # uvicorn raises the signals it has taken once more when it is done; here they have had their effect.
    taken = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: None) for number in taken]
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in zip(taken, before, strict=True):
            signal.signal(number, handler)
        service.close()
        listening.close()
    if server.failure is not None:
        raise server.failure


def end_process() -> None:
    """Leave with 0 even where a thread still computes what nobody waits for; Python itself would wait for it."""
    for number in (signal.SIGTERM, signal.SIGINT):  # it has had its effect; now it would end in a traceback
        signal.signal(number, signal.SIG_IGN)
    until = time.monotonic() + LEAVE_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)


class _Server(uvicorn.Server):
    """uvicorn's, which warms up when it has started, and takes its leave more slowly."""

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._on_ready = service, on_ready
        self.failure: Exception | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        service = self._service
        service.metrics.watch(lambda: service.admission.pictures, lambda: len(self.server_state.connections))
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def _warm_up(self) -> None:
        try:
            self._service.warm_up()
            # What is here now stays: the collector need not go through all of it again and again. Nor through all
            # requests under way at every 700 new objects, Python's default: that takes 16 us a request, this takes 8.
            gc.collect()
            gc.freeze()
            gc.set_threshold(COLLECT_AFTER)
            self._on_ready()
        except Exception as error:
            self.failure = error
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.stopping = True
        # What the system has accepted for us, we take; only then is the door closed.
        await asyncio.sleep(0.01)
        await super().shutdown(sockets)
