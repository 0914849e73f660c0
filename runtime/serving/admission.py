"""How much of the server is in use: pictures accepted and not yet answered, and bytes of bodies held."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from runtime.serving.limits import Limits
from runtime.serving.refusal import Refusal


class Admission:
    """Counts what is held, and refuses what is over the limits. Belongs to the event loop's thread.

    Attributes:
        pictures: accepted and not yet answered.
        held: bytes of their bodies.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.pictures = 0
        self.held = 0

    @contextlib.contextmanager
    def admitted(self, pictures: int) -> Iterator[None]:
        """Hold places in the queue.

        Raises:
            Refusal: 503, there are not as many left.
        """
        if self.pictures + pictures > self._limits.max_queue:
            raise Refusal(
                503,
                f"the queue is full: {self.pictures} pictures wait, at most {self._limits.max_queue} may; try again",
            )
        self.pictures += pictures
        try:
            yield
        finally:
            self.pictures -= pictures

    def hold(self, size: int) -> None:
        """Count `size` more bytes; whoever calls gives them back with `release`.

        Raises:
            Refusal: 503, too many are held already.
        """
        if self.held + size > self._limits.max_held:
            raise Refusal(503, f"the server holds {self.held} bytes of other requests, and has no room; try again")
        self.held += size

    def release(self, size: int) -> None:
        """Give bytes back."""
        self.held -= size
