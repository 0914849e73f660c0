"""A connection whose client sends nothing more, and may have left or may still wait for an answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket


class HalfClosed:
    """Knows whether the other end still exists: the event loop reads no more from there, but the socket notes a reset.

    Args:
        transport: the connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._socket: socket.socket | None = None
        with contextlib.suppress(OSError):  # no file is left for it; then who leaves now is answered in vain
            self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))

    def gone(self) -> bool:
        """Whether the client has left. May be asked from any thread."""
        try:
            return self._socket is not None and self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        except OSError:
            return True

    def close(self) -> None:
        """Look no more."""
        if self._socket is not None:
            self._socket.close()
