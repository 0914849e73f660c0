"""A server of `runtime serve` in a process of its own, for the tests that talk to one."""

import asyncio
import contextlib
import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from runtime.cli.serve import NEEDED

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds that a busy machine may take to open two models


@dataclass
class Answer:
    """The answer to one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class RunningServer:
    """A running `runtime serve`; as a context manager it is stopped at the end, and must then have exited with 0."""

    def __init__(self, *arguments: str, open_files: tuple[int, int] | None = None) -> None:
        # `open_files`: the soft and the hard limit that it is started under, as `ulimit -n` sets them.
        limit = [] if open_files is None else ["prlimit", f"--nofile={open_files[0]}:{open_files[1]}"]
        serve = [sys.executable, "-m", "runtime", "serve", "--port", "0", "--device", "cpu", "--json"]
        command = [*limit, *serve, *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ.copy()
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server did not start: {self.process.communicate()[1]}")
        self.url = json.loads(line)["url"]
        self.port = int(self.url.rpartition(":")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            code, _ = self.stop()
            assert code == 0
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit code and the seconds until the exit."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return code, time.monotonic() - began

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Send one request on a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def connect(self) -> socket.socket:
        """Return a bare connection, for what no HTTP library would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def metric(self, name: str, **labels: str) -> float:
        """Return one number of `/metrics`, 0 where it has not been counted yet."""
        text = self.ask("GET", "/metrics").body.decode()
        want = ",".join(f'{key}="{value}"' for key, value in labels.items())
        found = re.search(rf"^{re.escape(name + (f'{{{want}}}' if want else ''))} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def alive(self) -> bool:
        """Whether it still runs and answers."""
        return self.process.poll() is None and self.ask("GET", "/v2/health/ready").status == 200


def read_answer(connection: socket.socket) -> Answer:
    """Read one answer from a bare connection, up to its stated length; an interim one is passed over."""
    received = b""
    while True:
        head, found, rest = received.partition(b"\r\n\r\n")
        if found and head.startswith(b"HTTP/1.1 100"):
            received = rest
            continue
        if found:
            lines = head.decode("latin-1").split("\r\n")
            headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:])}
            if len(rest) >= int(headers.get("content-length", "0")):
                return Answer(int(lines[0].split()[1]), headers, rest)
        more = connection.recv(65536)
        if not more:
            raise ConnectionError(f"the connection was closed after {received!r}")
        received += more


def predict_request(picture: bytes, path: str = "/predict", *headers: str) -> bytes:
    """Return a whole request as bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(picture)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + picture


@contextlib.contextmanager
def many_connections(server: RunningServer, count: int) -> Iterator[list[socket.socket]]:
    """Open bare connections, and close them at the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(count)]


@contextlib.contextmanager
def lenet_app() -> Iterator[tuple[Any, Any, Any]]:
    """The server's application in this process, without a socket, with its models and its metrics."""
    from runtime.classifier import Classifier
    from runtime.serving.app import create_app
    from runtime.serving.limits import Limits
    from runtime.serving.metrics import Metrics
    from runtime.serving.models import Models

    metrics = Metrics()
    models = Models([Classifier("lenet", device="cpu")], Limits(), metrics)
    try:
        yield create_app(models, Limits(), metrics), models, metrics
    finally:
        models.close()


def ask_app(app: Any, method: str, path: str, body: bytes, sent: list[Any]) -> Answer:
    """Send one request of a client that stays; `sent` keeps the messages of an application that raises."""
    bodies = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return bodies.pop() if bodies else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [], "state": {}}
    asyncio.run(app(scope, receive, send))
    headers = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, b"".join(message["body"] for message in sent[1:]))


def require_serve() -> None:
    """Skip where the extra is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the extra serve is not installed: no {', '.join(missing)}")
