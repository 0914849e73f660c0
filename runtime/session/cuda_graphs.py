"""Run a session on a GPU with CUDA graphs: fixed input and output buffers, one captured graph a batch size.

A CUDA graph replays kernel launches with the shapes and addresses of its capture. Batches are therefore padded to a few
sizes (`BUCKETS`), each with its own buffers and graph, made at its first use. Memory is that of the sizes used so far.
Pixels are copied to the GPU in the input's own type: as uint8, a quarter of the bytes of float32.

onnxruntime keeps a captured graph, and its cuBLAS and cuDNN handles, per thread for as long as the session lives, so
all runs of a session are made in one worker thread.
"""

import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.errors import DeviceUnavailable, FashionZooError
from runtime.model.metadata import LOGITS, PROBABILITIES
from runtime.model.spec import INPUT, Array, InputSpec
from runtime.session.device import Device

GRAPH_ID, NO_GRAPH = "gpu_graph_id", "-1"  # onnxruntime's run option: which graph to capture or replay, or none

# Doubling keeps the padding under half of a batch. Below 8 images a GPU waits for kernel launches, and 1,024 fill it.
BUCKETS = (1, 8, 32, 64, 128, 256, 512, 1024)

# onnxruntime captures in global mode: meanwhile no thread of the process may allocate or free memory on a GPU.
capture_lock = threading.RLock()


def bucket_for(count: int) -> int:
    """Return the smallest bucket that holds `count` images, which is at most the largest bucket."""
    return next(bucket for bucket in BUCKETS if count <= bucket)


def pieces(count: int, batch_size: int) -> Iterator[tuple[slice, int]]:
    """Yield which of `count` images to run together, at most `batch_size`, and the bucket that they are padded to."""
    step = min(batch_size, BUCKETS[-1])
    for start in range(0, count, step):
        stop = min(start + step, count)
        yield slice(start, stop), bucket_for(stop - start)


class Buffers:
    """Device buffers of one batch size, bound to a session's input and outputs."""

    def __init__(self, session: Any, device: Device, bucket: int, spec: InputSpec, classes: int, graph: bool) -> None:
        import onnxruntime

        place = ("cpu", 0) if device.kind == "cpu" else ("cuda", device.index)
        allocate = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._session = session
        self._padded = spec.zeros(bucket)
        self._pixels = allocate(self._padded.shape, spec.dtype.type, *place)
        self._outputs = {name: allocate((bucket, classes), np.float32, *place) for name in (LOGITS, PROBABILITIES)}
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(INPUT, self._pixels)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry(GRAPH_ID, str(bucket) if graph else NO_GRAPH)

    def run(self, outputs: Sequence[str], pixels: Array) -> list[npt.NDArray[np.float32]]:
        """Return these outputs of one run: pixels: (N, C, H, W), N up to the bucket -> float32 (N, K) each."""
        count = len(pixels)
        if count < len(self._padded):
            self._padded[:count] = pixels  # images do not influence each other: the rest may be any earlier content
            pixels = self._padded
        self._pixels.update_inplace(pixels)
        self._session.run_with_iobinding(self._binding, self._options)
        # A copy, since on a CPU the array would be the buffer itself.
        return [self._outputs[output].numpy()[:count].copy() for output in outputs]


class BoundSession:
    """A session on a GPU, with buffers for each batch size in use. May be called from several threads.

    It owns the session: the memory is freed by `close`, or when the object is collected, never during a capture.

    Args:
        session: an onnxruntime session with the contract's input `spec` and outputs, for K = `classes`.
        graphs: whether the session was opened to capture graphs; the attribute: whether batches are replayed as such.
        what: what the model is called in errors.
    """

    def __init__(self, session: Any, device: Device, spec: InputSpec, classes: int, *, graphs: bool, what: str) -> None:
        self._device, self._spec, self._classes, self._what = device, spec, classes, what
        self._sessions = [session]
        self._buffers: dict[int, Buffers] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="cuda")
        self._free = weakref.finalize(self, _free, self._worker, self._sessions, self._buffers)
        self.graphs = graphs

    @property
    def captured(self) -> list[int]:
        """The batch sizes in use, in the order of their first use."""
        return list(self._buffers)

    def run(self, outputs: Sequence[str], pixels: Array, batch_size: int) -> list[npt.NDArray[np.float32]]:
        """Return these outputs of one run: pixels: (N, C, H, W), contiguous -> float32 (N, K) each.

        Raises:
            DeviceUnavailable: the device failed while it ran.
            FashionZooError: the session has been closed.
        """
        try:
            future = self._worker.submit(self._run, outputs, pixels, batch_size)
        except RuntimeError:  # of an executor that has been shut down
            raise FashionZooError(f"this session of {self._what} has been closed") from None
        return future.result()

    def close(self) -> None:
        """Free the session and its buffers, after the runs that were asked for before."""
        self._worker.shutdown()
        self._free()

    def _run(self, outputs: Sequence[str], pixels: Array, batch_size: int) -> list[npt.NDArray[np.float32]]:
        with capture_lock:
            answers = [
                self._run_piece(outputs, pixels[part], bucket) for part, bucket in pieces(len(pixels), batch_size)
            ]
        if len(answers) == 1:
            return answers[0]
        if not answers:
            return [np.empty((0, self._classes), np.float32) for _ in outputs]
        return [np.concatenate(parts) for parts in zip(*answers, strict=True)]

    def _run_piece(self, outputs: Sequence[str], pixels: Array, bucket: int) -> list[npt.NDArray[np.float32]]:
        try:
            if bucket not in self._buffers:
                self._buffers[bucket] = Buffers(
                    self._sessions[0], self._device, bucket, self._spec, self._classes, self.graphs
                )
            # After a failure the buffers stay: a captured graph goes on reading and writing their addresses.
            return self._buffers[bucket].run(outputs, pixels)
        except Exception as error:  # onnxruntime's errors share no base class
            reason = " ".join(str(error).split())
            raise DeviceUnavailable(
                f"{self._what} failed on {self._device} in a batch of {bucket}: {reason}; where memory is short, use a "
                "smaller batch size, else see `runtime doctor --selftest`",
                cause=reason,
            ) from error


def _free(worker: ThreadPoolExecutor, sessions: list[Any], buffers: dict[int, Buffers]) -> None:
    """Drop a session and its buffers, not while another session captures."""
    worker.shutdown(wait=False)
    with capture_lock:
        buffers.clear()
        sessions.clear()
