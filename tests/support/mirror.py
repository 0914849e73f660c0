"""A local server in place of a public mirror of Fashion-MNIST."""

import http.server
import threading

from runtime.datasets import fashion_mnist

IMAGES, LABELS = (file.name for file in fashion_mnist.FILES["test"])
GZ = f"{LABELS}.gz"


class Mirror(http.server.ThreadingHTTPServer):
    """A mirror that can misbehave. `requests` lists (file, first byte asked for) of each request."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), MirrorHandler)
        self.files = files
        self.cuts: list[int] = []  # the next responses break after so many bytes...
        self.hangs_up = threading.Event()  # ...as soon as this is set
        self.hangs_up.set()
        self.knows_ranges = True
        self.range_error = 0  # bytes by which the start of a range is missed
        self.tells_length = True
        self.requests: list[tuple[str, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up in the middle is expected here."""


class MirrorHandler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.server.requests.append((name, start))
        if name not in self.server.files:
            return self.send_error(404)
        body = self.server.files[name]
        start += self.server.range_error if start else 0
        if start and self.server.knows_ranges:
            if start >= len(body):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        else:
            self.send_response(200)
        if self.server.tells_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts:
            self.wfile.write(body[: self.server.cuts.pop(0)])
            self.server.hangs_up.wait()
        else:
            self.wfile.write(body)
        return None

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""
