"""Keeps work that is bound to a thread in one thread, without a detour for programs that have but one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from runtime.errors import FashionZooError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")


class OneThread:
    """Runs calls one at a time: in the caller's own thread while only one calls, in a worker from the second on.

    onnxruntime keeps captured CUDA graphs, and cuBLAS and cuDNN handles beside them, for each thread that runs a
    session, until the session is gone: a server that starts a thread for each request would run out of memory. The
    detour through a worker costs tens of microseconds, so the first thread is spared it as long as it is the only one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: threading.Thread | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._closed = False

    def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work` returns, or raise what it raises.

        Raises:
            FashionZooError: it has been closed.
        """
        with self._lock:
            if self._closed:
                raise FashionZooError("this session has been closed, by another thread")
            if self._worker is None:
                caller = threading.current_thread()
                if self._first is None or self._first is caller:
                    self._first = caller
                    return work(*args, **kwargs)
                from concurrent.futures import ThreadPoolExecutor

                self._worker = ThreadPoolExecutor(1, thread_name_prefix="cuda")
            future = self._worker.submit(work, *args, **kwargs)
        return future.result()

    def close(self) -> None:
        """End the worker, after what it was given; nothing can be called afterwards."""
        with self._lock:
            self._closed = True
            if self._worker is not None:
                self._worker.shutdown()
