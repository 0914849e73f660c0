"""How much one server takes on, so that no client can cost it more."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """All that bounds memory and time.

    Attributes:
        max_batch: pictures that are run together.
        max_wait: seconds for which a picture waits for others, where there are others.
        max_queue: pictures that are accepted and not yet answered; over it, 503.
        max_body: bytes of one body, also once it is decompressed; over it, 413.
        max_pixels: pixels of one picture; over it, 413.
        max_connections: open connections; over it, 503.
        max_head: bytes of a request's line and headers; over it, 431.
        read_seconds: how long a client may take to send a request; over it, 408.
        idle_seconds: how long a connection may stay open between two requests.
        drain_seconds: how long accepted requests may take once the server has been told to stop.
    """

    max_batch: int = 64
    max_wait: float = 0.002
    max_queue: int = 512
    max_body: int = 2**24
    max_pixels: int = 2**25
    max_connections: int = 2048
    max_head: int = 2**14
    read_seconds: float = 10.0
    idle_seconds: float = 60.0
    drain_seconds: float = 3.5

    @property
    def max_held(self) -> int:
        """Bytes of all bodies held at once; over it, 503. The longest one has room, also beside its compressed form."""
        return max(2**28, 2 * self.max_body)
