"""A time limit that can be started and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Clock:
    """Rings once, so many seconds after it was started, unless it is stopped before.

    Args:
        loop: whose thread all of it belongs to.
        seconds: until it rings.
        ring: called then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, ring: Callable[[], None]) -> None:
        self._loop, self._seconds, self._ring = loop, seconds, ring
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start it; one that runs already runs on."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, self._rung)

    def stop(self) -> None:
        """Stop it; one that does not run stays as it is."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _rung(self) -> None:
        self._handle = None
        self._ring()
