"""Compare backends on one model: each in a process of its own, timed in turn on the same images.

A backend is a library that runs the network: this runtime, plain onnxruntime, PyTorch, OpenVINO. Each has its own
process (`zoo.benchmark.worker`), so that libraries share neither threads nor memory. One is timed at a time.
"""

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from runtime.errors import FashionZooError, UsageError
from runtime.evaluation.benchmark import check_measuring, same_package
from runtime.evaluation.timing import figures
from zoo.benchmark.backends import BACKENDS
from zoo.runs.checkpoint import checkpoint_in

OURS = "runtime"
ROUNDS = 5
START_SECONDS = 900  # max-autotune compiles for minutes


class BackendFailed(FashionZooError):
    """A backend that cannot be run here, or that failed."""


class Worker:
    """One backend in its own process. Use it in a `with` statement.

    PyTorch takes the zoo's `network` in place of the file, with the weights of `checkpoint` or else of seed 0.

    Attributes:
        cold_start_ms: import, session, first run, and total from the start of the process.
        version: of the library.

    Raises:
        BackendFailed: it cannot be run here.
    """

    def __init__(
        self,
        backend: str,
        file: Path,
        device: str,
        *,
        threads: int | None = None,
        precision: str = "fp32",
        network: str | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        self.backend = backend
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            # -P: the working folder may hold files with the names of modules.
            [sys.executable, "-P", "-m", "zoo.benchmark.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=same_package(),
        )
        try:
            ready = self._ask(
                backend=backend,
                file=os.path.abspath(file),  # a bare file name might be taken for a model's
                device=device,
                threads=threads,
                precision=precision,
                network=network,
                checkpoint=checkpoint and str(checkpoint),
            )
        except BaseException:
            self.__exit__()
            raise
        self.cold_start_ms: dict[str, float] = ready["cold_start_ms"]
        self.version: str = ready["version"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # from text that is still in its buffer
                    stream.close()

    def time(self, batch_size: int, min_seconds: float, min_runs: int) -> dict[str, Any]:
        """Return `nanoseconds` of each run, and the memory in use, `resident_mib` and `device_mib` (None on a CPU)."""
        return self._ask(batch_size=batch_size, min_seconds=min_seconds, min_runs=min_runs)

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the backend's logits: pixels: uint8 (N, 1, 28, 28) -> float32 (N, K)."""
        return np.array(self._ask(pixels=pixels.tolist())["logits"], dtype=np.float32)

    def _ask(self, **request: Any) -> dict[str, Any]:
        """Send a request to the process as a line of JSON, and return its answer, another line."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        too_late = threading.Timer(START_SECONDS, self._process.kill)
        too_late.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            too_late.cancel()
        if not line:
            self._process.wait()
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or [f"exit code {self._process.returncode}"])[-1]
            raise BackendFailed(f"{self.backend} ended: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BackendFailed(f"{self.backend}: {answer['error']}")
        return answer


def take_turns(
    workers: Sequence[Worker], batch_size: int, min_seconds: float, min_runs: int
) -> dict[str, dict[str, Any]]:
    """Time each worker in each of `ROUNDS` rounds, so that a change of the machine's speed affects all of them alike.

    Returns:
        By backend: its row as `runtime.evaluation.timing.figures`, its memory, and `times_ours`, the median over rounds
        of its median latency over that of the first worker; or `error` in place of these, for one that failed.
    """
    samples: dict[str, list[list[int]]] = {worker.backend: [] for worker in workers}
    rows: dict[str, dict[str, Any]] = {worker.backend: {} for worker in workers}
    runs = max(1, math.ceil(min_runs / ROUNDS))
    for turn in range(ROUNDS):
        first = turn % len(workers)
        for worker in (*workers[first:], *workers[:first]):
            row = rows[worker.backend]
            if "error" in row:
                continue
            try:
                answer = worker.time(batch_size, min_seconds / ROUNDS, runs)
            except BackendFailed as error:
                rows[worker.backend] = {"batch_size": batch_size, "error": str(error)}
                continue
            samples[worker.backend].append(answer.pop("nanoseconds"))
            row |= answer
    ours = samples[workers[0].backend]
    for backend, row in rows.items():
        if "error" not in row:
            row |= figures(batch_size, [nanoseconds for taken in samples[backend] for nanoseconds in taken])
            ratios = [statistics.median(t) / statistics.median(o) for t, o in zip(samples[backend], ours, strict=False)]
            row["times_ours"] = round(statistics.median(ratios), 3) if ratios else None
    return rows


def check_backends(backends: Sequence[str]) -> None:
    """Raise UsageError unless all of them are known."""
    if unknown := [backend for backend in backends if backend not in BACKENDS]:
        raise UsageError(f"there is no backend {', '.join(map(repr, unknown))}; expected some of {', '.join(BACKENDS)}")


def compare(
    backends: Sequence[str],
    file: Path,
    device: str,
    *,
    threads: int | None,
    tf32: bool,
    network: str,
    batch_sizes: Sequence[int],
    min_seconds: float,
    min_runs: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Time `backends` and this runtime in turn, batch size by batch size; `not_run` names those that cannot run here.

    Raises:
        UsageError: there is no such backend, or a number makes no sense.
        BackendFailed: this runtime itself cannot run the model.
    """
    check_backends(backends)
    check_measuring(batch_sizes, min_seconds, min_runs)
    checkpoint = checkpoint_in(file.parent)
    workers: list[Worker] = []
    absent: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for backend in dict.fromkeys((OURS, *backends)):
            uses_torch = backend.startswith("torch")
            if uses_torch and not checkpoint.is_file():
                absent[backend] = f"{backend} needs the weights in {checkpoint}, which is missing"
                continue
            try:
                worker = Worker(
                    backend,
                    file,
                    device if backend == OURS else device.replace("tensorrt", "cuda"),  # the same GPU
                    threads=threads,
                    precision="tf32" if tf32 else "fp32",
                    network=network,
                    checkpoint=checkpoint if uses_torch else None,
                )
            except BackendFailed as error:
                if backend == OURS:
                    raise
                absent[backend] = str(error)
            else:
                workers.append(stack.enter_context(worker))
        rows = []
        for batch_size in batch_sizes:
            rows.append(take_turns(workers, batch_size, min_seconds, min_runs))
            if progress is not None:
                progress(1)
    return {
        "backends": {each.backend: {"version": each.version, "cold_start_ms": each.cold_start_ms} for each in workers},
        "not_run": absent,
        "rounds": ROUNDS,
        "batches": rows,
    }
