"""A session that can be had again: in a forked child, and in another process that gets the request for it."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.contract import LOGITS, SIDE
from runtime.device import Device
from runtime.errors import DeviceUnavailable, FashionZooError, ModelInvalid
from runtime.session import open_session
from runtime.store import StoredModel, find_model
from runtime.threads import available_cpus
from runtime.tuning import Tuning

if TYPE_CHECKING:
    from runtime.bound import BoundSession


class LiveSession:
    """One model file, open. `session` is None in a forked child until `reopened` is called, and once closed.

    Attributes:
        session: the `onnxruntime.InferenceSession`; None where `bound` owns it.
        stored: the file; `bytes` and `sha256` are those of its content.
        device, placement, reason, tuning, notice: as in `runtime.session.OpenSession`.
        bound: what to run on a GPU in place of the session, once `bind` was called; None on the CPU.
        decoders: how many threads may decode pictures for it.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None,
        device: str,
        threads: int | None,
        tf32: bool = False,
        tuning: Tuning | None = None,
    ) -> None:
        self.stored: StoredModel = find_model(model)
        # What is read again later must not depend on the folder that the process is in by then.
        self._file = replace(self.stored, path=Path(os.path.abspath(self.stored.path)))
        content = self.stored.read()
        self.bytes, self.sha256 = len(content), hashlib.sha256(content).hexdigest()
        # A name stays a name, for each process to look up.
        by_path = model is not None and self.stored.origin == "path"
        self._model = str(self._file.path) if by_path else None if model is None else os.fspath(model)
        self._asked, self._threads, self._tf32, self._asked_tuning = device, threads, tf32, tuning
        what = str(self.stored.path)
        opened = open_session(content, device, threads=threads, what=what, tf32=tf32, graphs=True, tuning=tuning)
        self.session: Any = opened.session
        self.device: Device = opened.device
        self.placement, self.reason, self.tuning = opened.placement, opened.reason, opened.tuning
        self.notice = opened.notice
        self.bound: BoundSession | None = None
        self.decoders = available_cpus()
        self._closed = False
        _open_sessions.add(self)

    def bind(self, classes: int) -> None:
        """On a GPU, set up `bound` for a model of K = `classes`, which has been found to keep the contract.

        Whether batches are replayed as CUDA graphs is decided here, by capturing and running one.

        Raises:
            DeviceUnavailable: the device runs the model neither with nor without graphs.
        """
        if self.device.kind == "cpu":
            return
        from runtime.bound import BoundSession

        what, one = str(self.stored.path), np.zeros((1, 1, SIDE, SIDE), np.uint8)
        self.bound = BoundSession(self.session, self.device, classes, graphs=self.tuning.graphs, what=what)
        self.session = None  # `bound` owns it, and frees it when nothing is being captured
        if not self.tuning.graphs:
            return
        try:
            self.bound.run([LOGITS], one, 1)
        except DeviceUnavailable as error:
            self.bound.close()  # the stream of a session whose capture failed stays unusable
            self.notice = f"without CUDA graphs: {error.cause}"
            self.tuning = replace(self.tuning, graphs=False)
            session = self._open_again(self._file.read(), self.tuning)
            self.bound = BoundSession(session, self.device, classes, graphs=False, what=what)

    def close(self) -> None:
        """Let the session go, for good."""
        self._closed, self.session = True, None
        if self.bound is not None:
            self.bound.close()

    def request(self) -> tuple[str | None, str, int | None, bool, Tuning | None, str]:
        """Return what another process needs to open the same: model, device, threads, TF32, tuning, and the sha256."""
        self._refuse_closed()
        return self._model, self._asked, self._threads, self._tf32, self._asked_tuning, self.sha256

    def require(self, sha256: str) -> None:
        """Raise ModelInvalid unless the file's content has this checksum."""
        if self.sha256 != sha256:
            raise ModelInvalid(
                f"{self.stored.path} is not the file this classifier was made from: its sha256 is {self.sha256}, "
                f"but was {sha256}; make the classifier again"
            )

    def reopened(self) -> Any:
        """Return the session, opened again if this process was forked from the one that opened it.

        Raises:
            FashionZooError: it has been closed.
            DeviceUnavailable: it is on CUDA, which no forked process can use.
            ModelInvalid: the file has changed since.
        """
        with _reopening:
            self._refuse_closed()
            if self.session is None:
                if self.device.kind != "cpu":
                    raise DeviceUnavailable(
                        f"{self.stored.path} was opened on {self.device} before this process was forked, and CUDA does "
                        "not survive a fork: start processes with the 'spawn' method, or open the model in the child"
                    )
                self.session = self._open_again(self._file.read(), self.tuning)
            return self.session

    def _open_again(self, content: bytes, tuning: Tuning) -> Any:
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise ModelInvalid(
                f"{self.stored.path} has changed since it was opened: its sha256 is {found}, not {self.sha256}"
            )
        return open_session(
            content,
            str(self.device),
            threads=self._threads,
            what=str(self.stored.path),
            tf32=self._tf32,
            graphs=tuning.graphs,
            tuning=tuning,
        ).session

    def _refuse_closed(self) -> None:
        if self._closed:
            raise FashionZooError(f"this classifier of {self.stored.name!r} has been closed")


_open_sessions: weakref.WeakSet[LiveSession] = weakref.WeakSet()
_reopening = threading.Lock()


_inherited: list[Any] = []


def _keep_inherited() -> None:
    """In a forked child, neither run nor free the parent's sessions: their threads are missing, and both would hang."""
    global _reopening
    _reopening = threading.Lock()  # another thread of the parent may have held it
    for live in list(_open_sessions):
        _inherited.append((live.session, live.bound))
        live.session = live.bound = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_inherited)
