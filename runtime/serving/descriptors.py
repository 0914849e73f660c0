"""How many files this process may have open: each connection is one, and who cannot be accepted cannot be told so."""

from __future__ import annotations

import dataclasses
import os

from runtime.serving.limits import Limits

REFUSED = 2048  # connections that may be open beside those that are served, until their 503 has been read
_LATER = 32  # files that are opened once the server runs: the loop's own, a page, the libraries'


def with_room(limits: Limits) -> Limits:
    """Raise the process's soft limit to what `limits` need, and lower `max_connections` where the hard limit is less.

    What is left then serves as many connections as it refuses.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return limits
    soft, hard = (_count(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    in_use = _open_files() + _LATER
    needed = in_use + limits.max_connections + REFUSED
    if soft < needed:
        allowed = min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            soft = allowed
        except (OSError, ValueError):  # macOS has a lower limit of its own, which it does not tell
            pass
    if soft >= needed:
        return limits
    return dataclasses.replace(limits, max_connections=max(1, min(limits.max_connections, (soft - in_use) // 2)))


def _open_files() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:  # a container without /proc
        return 64


def _count(limit: int) -> int:
    return 2**63 - 1 if limit < 0 else limit  # "infinity" is -1
