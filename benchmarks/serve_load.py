"""`runtime serve` under load: 64 connections, one PNG each; batches against answers one by one, in turn.

python benchmarks/serve_load.py [SECONDS] [ROUNDS]     60 seconds a server, in 12 parts: a shared machine's speed drifts

Every connection sends its next request when it has its answer. "One by one" is the same server with `--batch-size 1`.
The client shares the cores; every answer is checked.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import conditions
import numpy as np
from PIL import Image

from runtime import Classifier
from runtime.datasets import fashion_mnist

MODEL = "lenet"
CONNECTIONS = 64
PICTURES = 1000
SERVERS: dict[str, list[str]] = {"batches": [], "one_by_one": ["--batch-size", "1"]}


@dataclass
class Tally:
    """The seconds of each answer, and the number of answers by status."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    broken: int = 0


class Client(asyncio.Protocol):
    """One connection, written on asyncio, since Python's HTTP clients take several times the server's CPU time."""

    def __init__(self, requests: list[tuple[bytes, bytes]], start: int, until: float, tally: Tally) -> None:
        self.requests, self.next, self.until, self.tally = requests, start, until, tally
        self.received = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        request, self.expected = self.requests[self.next % len(self.requests)]
        self.next += CONNECTIONS
        self.began = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or len(body) < int(re.search(rb"content-length: (\d+)", head)[1]):  # type: ignore[index]
            return
        now = time.perf_counter()
        status = int(head[9:12])
        self.tally.statuses[status] += 1
        self.tally.seconds.append(now - self.began)
        self.tally.wrong += status == 200 and self.expected not in body
        self.received = b""
        if now < self.until:
            self.ask()
        else:
            self.expected = b""
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.tally.broken += bool(self.expected)


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[str]:
    """A context with a running server, whose value is its address; at the end it must exit with 0."""
    command = [sys.executable, "-m", "runtime", "serve", "-m", MODEL, "--device", "cpu", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        if process.wait(10):
            raise SystemExit(f"the server exited with {process.returncode}")


def load(url: str, requests: list[tuple[bytes, bytes]], seconds: float) -> Tally:
    """Send requests on all connections for so many seconds."""
    tally = Tally()
    port = int(url.rpartition(":")[2])

    async def clients() -> None:
        loop = asyncio.get_running_loop()
        until = time.perf_counter() + seconds
        for start in range(CONNECTIONS):
            await loop.create_connection(lambda start=start: Client(requests, start, until, tally), "127.0.0.1", port)
        await asyncio.sleep(seconds + 1)

    try:
        import uvloop
    except ImportError:
        asyncio.run(clients())
    else:
        uvloop.run(clients())
    return tally


def process_metric(url: str, name: str) -> float:
    """Return a `process_` metric of the server."""
    text = urllib.request.urlopen(f"{url}/metrics").read().decode()
    found = re.search(rf"^process_{name} (\S+)", text, re.MULTILINE)
    assert found
    return float(found[1])


def measure(requests: list[tuple[bytes, bytes]], seconds: float, *arguments: str) -> dict[str, Any]:
    """Start a server, warm it up, load it, and stop it; return its figures."""
    with server(*arguments) as url:
        load(url, requests, min(2.0, seconds))
        memory, processor = process_metric(url, "resident_memory_bytes"), process_metric(url, "cpu_seconds_total")
        tally = load(url, requests, seconds)
        memory_after = process_metric(url, "resident_memory_bytes")
        processor = process_metric(url, "cpu_seconds_total") - processor
    milliseconds = 1000 * np.array(tally.seconds)
    return {
        "requests_per_second": round(len(milliseconds) / seconds, 1),
        "server_cpu_us_a_request": round(1e6 * processor / len(milliseconds)),
        "p50_ms": round(float(np.percentile(milliseconds, 50)), 2),
        "p99_ms": round(float(np.percentile(milliseconds, 99)), 2),
        "slowest_ms": round(float(milliseconds.max()), 2),
        "statuses": dict(sorted(tally.statuses.items())),
        "wrong_answers": tally.wrong,
        "broken_connections": tally.broken,
        "resident_mib": [round(memory / 2**20, 1), round(memory_after / 2**20, 1)],
    }


def requests_and_answers() -> list[tuple[bytes, bytes]]:
    """Return requests of one test picture each, with the bytes that the answer must contain."""
    images = fashion_mnist.load("test")[0][:PICTURES]
    requests = []
    with Classifier(MODEL, device="cpu") as classifier:
        for image, index in zip(images[:, 0], classifier.logits(images).argmax(axis=1), strict=True):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            picture = file.getvalue()
            head = f"POST /predict HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(picture)}\r\n\r\n"
            requests.append((head.encode() + picture, f'"index":{index},"confidence"'.encode()))
    return requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float, nargs="?", default=60.0)
    parser.add_argument("rounds", type=int, nargs="?", default=12)
    arguments = parser.parse_args()
    seconds, rounds = arguments.seconds, arguments.rounds
    requests = requests_and_answers()
    servers = {name: partial(measure, requests, seconds / rounds, *options) for name, options in SERVERS.items()}
    parts = conditions.in_turn(servers, rounds)
    rates = {name: [part["requests_per_second"] for part in rows] for name, rows in parts.items()}

    def median(figure: str) -> dict[str, float]:
        return {name: round(statistics.median(part[figure] for part in rows), 1) for name, rows in parts.items()}

    figures = {
        "what": f"runtime serve, {MODEL}, {CONNECTIONS} connections, single PNGs of 28x28, client on the same cores",
        "seconds_a_server": seconds,
        "rounds": rounds,
        "load_average_at_the_end": os.getloadavg()[0],
        "requests_per_second": median("requests_per_second"),
        "server_cpu_us_a_request": median("server_cpu_us_a_request"),
        "p99_ms": median("p99_ms"),
        "median_ratio": round(conditions.median_ratio(rates["batches"], rates["one_by_one"]), 2),
        "servers": {name: {"arguments": SERVERS[name], "parts": rows} for name, rows in parts.items()},
    }
    print(json.dumps({key: value for key, value in figures.items() if key != "servers"}, indent=2))
    print(conditions.save("serve_load", figures))


if __name__ == "__main__":
    main()
