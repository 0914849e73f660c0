"""A server from its socket to its end: bind, warm up, listen, answer, drain."""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette

from runtime.classifier import Classifier
from runtime.errors import FashionZooError
from runtime.serving.app import create_app
from runtime.serving.limits import Limits
from runtime.serving.metrics import Metrics
from runtime.serving.models import Models
from runtime.session.device import available_cpus

BACKLOG = 2048  # connections that the system holds for us
COLLECT_AFTER = 5_000  # new objects until Python's collector looks for cycles among them
LAST_CALL_SECONDS = 0.3  # for which requests are still taken once the server is told to stop
LEAVE_SECONDS = 0.3  # for which threads may finish once all is answered


@contextlib.contextmanager
def _errors_of(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:  # the latter for a name that is none, such as 127.0.0..1
        hint = "stop what uses it, or choose another with --port"
        if getattr(error, "errno", None) != errno.EADDRINUSE:
            hint = "expected an address of this machine"
        reason = getattr(error, "strerror", None) or error
        raise FashionZooError(f"cannot listen on {host}, port {port}: {reason}; {hint}") from error


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket, which does not listen yet; port 0 is any free one.

    Raises:
        FashionZooError: the port is taken, or the address is not one of this machine.
    """
    with _errors_of(host, port):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere it would let two servers share a port
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    return bound


def url_of(bound: socket.socket) -> str:
    """Return the address that a browser takes."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve_until_stopped(
    bound: socket.socket,
    classifiers: Sequence[Classifier],
    limits: Limits,
    *,
    cors: Sequence[str] = (),
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Warm up, answer requests until SIGTERM or SIGINT, then what has been accepted, and return.

    Args:
        bound: from `bind`; it is closed at the end.
        cors: the origins of other servers' pages that may read the answers, see `create_app`.
        on_ready: called once requests are taken.

    Raises:
        FashionZooError: a model could not be warmed up, or another program took the port meanwhile.
    """
    metrics = Metrics()
    models = Models(classifiers, limits, metrics)
    app = create_app(models, limits, metrics, cors)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        limit_concurrency=min(limits.max_connections, allow_open_files(2 * limits.max_connections) // 2),
        timeout_keep_alive=limits.keep_alive_seconds,
        timeout_graceful_shutdown=limits.drain_seconds,
    )
    server = _Server(config, app, on_ready)
    metrics.connections.set_function(lambda: len(server.server_state.connections))
    try:
        for model in models:
            model.warm_up()
        # Exclude what is here now from collection, and collect every COLLECT_AFTER new objects in place of 700.
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)
        with _errors_of(*bound.getsockname()[:2]):
            bound.listen(BACKLOG)
        with _signals_had_their_effect():
            server.run(sockets=[bound])
    finally:
        models.close()
        bound.close()


@contextlib.contextmanager
def _signals_had_their_effect() -> Iterator[None]:
    """Ignore SIGTERM and SIGINT: uvicorn has stopped because of one of them, and raises it again when it returns."""
    taken = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: None) for number in taken]
    try:
        yield
    finally:
        for number, handler in zip(taken, before, strict=True):
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """uvicorn's server, with a moment before its end in which each answer closes its connection."""

    def __init__(self, config: uvicorn.Config, app: Starlette, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app, self._on_ready = app, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Each thread may hold a decoded image: no more of them than can run at once.
        anyio.to_thread.current_default_thread_limiter().total_tokens = available_cpus()
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.sleep(0.01)  # the system may have accepted connections that have not been taken yet
        for server in self.servers:
            server.close()
        self._app.state.stopping = True
        await asyncio.sleep(LAST_CALL_SECONDS)
        await super().shutdown(sockets)


def allow_open_files(count: int) -> int:
    """Raise the process's soft limit of open files, where it is lower and may be raised; return what it then is."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return count
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < count:
        soft = count if hard == unlimited else min(count, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS has a lower limit of its own, which it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return count if soft == unlimited else soft


def end_process() -> None:
    """Exit with 0 without waiting for threads that still compute."""
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
