"""Runs a session on a GPU: pixels into fixed buffers there, a captured CUDA graph replayed, answers out.

A CUDA graph replays launches with the very shapes and addresses of its capture. So batches are padded to a few sizes
(`runtime.buckets`), and each size has buffers and a graph of its own, both made when it is first needed; the memory in
use is then that of the sizes seen, and flat. Pixels travel as uint8, a quarter of the bytes of floats.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.buckets import pieces
from runtime.contract import INPUT, LOGITS, PROBABILITIES, SIDE
from runtime.device import Device
from runtime.errors import DeviceUnavailable
from runtime.one_thread import OneThread

GRAPH_ID, NO_GRAPH = "gpu_graph_id", "-1"  # onnxruntime's run option: which graph to capture or replay, or none

# CUDA forbids some calls, allocations among them, in every thread of the process while one of them captures.
capture_lock = threading.RLock()


class Buffers:
    """One batch size of one session: buffers on the device, bound to the model's input and outputs."""

    def __init__(self, session: Any, device: Device, bucket: int, classes: int, graph: bool) -> None:
        import onnxruntime

        place = ("cpu", 0) if device.kind == "cpu" else ("cuda", device.index)
        allocate = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._session = session
        self._padded = np.zeros((bucket, 1, SIDE, SIDE), np.uint8)
        self._pixels = allocate(self._padded.shape, np.uint8, *place)
        self._outputs = {name: allocate((bucket, classes), np.float32, *place) for name in (LOGITS, PROBABILITIES)}
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(INPUT, self._pixels)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry(GRAPH_ID, str(bucket) if graph else NO_GRAPH)

    def run(self, outputs: Sequence[str], pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """Return these outputs of one run: pixels: uint8 (N, 1, 28, 28), N up to the bucket -> float32 (N, K) each."""
        count = len(pixels)
        if count < len(self._padded):
            self._padded[:count] = pixels  # the rest is what was there: each picture is answered by itself
            pixels = self._padded
        self._pixels.update_inplace(pixels)
        self._session.run_with_iobinding(self._binding, self._options)
        # A copy, since on a CPU the array would be the buffer itself.
        return [self._outputs[output].numpy()[:count].copy() for output in outputs]


class BoundSession:
    """A session on a GPU, with buffers for each batch size in use. May be called from several threads.

    Where onnxruntime cannot capture a graph, the session is opened again without graphs, on the same device, and
    `notice` says so.

    Args:
        session: an onnxruntime session that keeps the contract.
        device: where it runs.
        classes: K.
        graphs: whether the session was opened to capture graphs.
        what: what the model is called in errors.
        without_graphs: opens the same session again, unable to capture.

    Attributes:
        graphs: whether batches are replayed as graphs.
        captured: the batch sizes in use, in the order of their first use.
        notice: why there are no graphs; None where there are, or where none were wanted.
    """

    def __init__(
        self,
        session: Any,
        device: Device,
        classes: int,
        *,
        graphs: bool,
        what: str,
        without_graphs: Callable[[], Any],
    ) -> None:
        self._session, self._device, self._classes, self._what = session, device, classes, what
        self._without_graphs = without_graphs
        self._thread = OneThread()
        self._buffers: dict[int, Buffers] = {}
        self._proved: set[tuple[int, int]] = set()  # thread and batch size of the graphs that were captured
        self.graphs = graphs
        self.notice: str | None = None

    @property
    def captured(self) -> list[int]:
        return list(self._buffers)

    def run(
        self, outputs: Sequence[str], pixels: npt.NDArray[np.uint8], batch_size: int
    ) -> list[npt.NDArray[np.float32]]:
        """Return these outputs of one run: pixels: uint8 (N, 1, 28, 28), contiguous -> float32 (N, K) each.

        Raises:
            DeviceUnavailable: the device failed while it ran.
        """
        return self._thread.call(self._run, outputs, pixels, batch_size)

    def close(self) -> None:
        """Let the session and its buffers go."""
        self._thread.close()
        self._buffers.clear()
        self._session = None

    def _run(
        self, outputs: Sequence[str], pixels: npt.NDArray[np.uint8], batch_size: int
    ) -> list[npt.NDArray[np.float32]]:
        with capture_lock:
            answers = [
                self._run_piece(outputs, pixels[part], bucket) for part, bucket in pieces(len(pixels), batch_size)
            ]
        if len(answers) == 1:
            return answers[0]
        if not answers:
            return [np.empty((0, self._classes), np.float32) for _ in outputs]
        return [np.concatenate(parts) for parts in zip(*answers, strict=True)]

    def _run_piece(
        self, outputs: Sequence[str], pixels: npt.NDArray[np.uint8], bucket: int
    ) -> list[npt.NDArray[np.float32]]:
        graph = threading.get_ident(), bucket
        try:
            if bucket not in self._buffers:
                self._buffers[bucket] = Buffers(self._session, self._device, bucket, self._classes, self.graphs)
            answers = self._buffers[bucket].run(outputs, pixels)
        except Exception as error:  # onnxruntime's errors share no base class
            reason = " ".join(str(error).split())
            # The buffers stay: a captured graph goes on reading and writing them, whoever asks for it again.
            if not self.graphs or graph in self._proved:
                raise DeviceUnavailable(
                    f"{self._what} failed on {self._device} in a batch of {bucket}: {reason}; where memory is short, "
                    "use a smaller batch size, else see `runtime doctor --selftest`",
                    cause=reason,
                ) from error
            self._give_graphs_up(bucket, reason)
            return self._run_piece(outputs, pixels, bucket)
        self._proved.add(graph)
        return answers

    def _give_graphs_up(self, bucket: int, reason: str) -> None:
        """Go on without graphs: the stream of a session whose capture failed stays unusable."""
        self._buffers.clear()
        self._session = self._without_graphs()
        self.graphs = False
        self.notice = f"without CUDA graphs, since a batch of {bucket} could not be captured: {reason}"
