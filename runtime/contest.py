"""Several ways of running one model, each in a process of its own, timed in turn on the same pictures.

The other ways need PyTorch, OpenVINO or nothing but onnxruntime; `python -m zoo.contestant` runs them, so that this
floor imports none of them, and no library's threads or memory mix with another's. All wait while one is timed.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from runtime.bench import check_measuring, same_package
from runtime.errors import FashionZooError, UsageError
from runtime.timing import figures

OURS = "runtime"
WAYS = (
    OURS,
    *("runtime-no-graph", "runtime-nhwc", "runtime-exhaustive", "runtime-sleeping"),  # with another `runtime.tuning`
    *("onnxruntime", "torch", "torch-compile", "torch-graph", "torch-graph-bare", "openvino"),
)
ROUNDS = 5
START_SECONDS = 900  # max-autotune compiles for minutes
CHECKPOINT = "checkpoint.safetensors"


class ContestantFailed(FashionZooError):
    """A way that cannot be run here, or that broke; the sentence says why."""


class Contestant:
    """One way of running a model, in its own process. Use it in a `with`.

    Args:
        way: one of `WAYS`.
        file: the .onnx file.
        device: `cpu` or `cuda:N`.
        threads: CPU threads; None leaves them to the library.
        precision: `fp32`, `tf32` or `fp16`.
        network: the zoo's name of the network, for the ways of PyTorch.
        checkpoint: its weights; without one they are those of seed 0.

    Attributes:
        cold_start_ms: import, session, first run, and total from the start of the process.
        version: of the library.

    Raises:
        ContestantFailed: it cannot be run here.
    """

    def __init__(
        self,
        way: str,
        file: Path,
        device: str,
        *,
        threads: int | None = None,
        precision: str = "fp32",
        network: str | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        self.way = way
        request = {
            "way": way,
            "file": str(file),
            "device": device,
            "threads": threads,
            "precision": precision,
            "network": network,
            "checkpoint": checkpoint and str(checkpoint),
        }
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            # -P: the working folder holds files of the user's, whose names may be those of modules.
            [sys.executable, "-P", "-m", "zoo.contestant", json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=same_package(),
        )
        try:
            ready = self._answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.cold_start_ms: dict[str, float] = ready["cold_start_ms"]
        self.version: str = ready["version"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what was still to be written to it
                    stream.close()

    def time(self, batch_size: int, min_seconds: float, min_runs: int) -> dict[str, Any]:
        """Return `nanoseconds` of each run, and the memory in use, `resident_mib` and `device_mib` (None on a CPU)."""
        return self._ask({"time": {"batch_size": batch_size, "min_seconds": min_seconds, "min_runs": min_runs}})

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return its answers: pixels: uint8 (N, 1, 28, 28) -> float32 (N, K)."""
        with tempfile.TemporaryDirectory() as scratch:
            files = {"pixels": f"{scratch}/pixels.npy", "logits": f"{scratch}/logits.npy"}
            np.save(files["pixels"], pixels)
            self._ask({"answer": files})
            answers: npt.NDArray[np.float32] = np.load(files["logits"])
            return answers

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failure() from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        hang = threading.Timer(START_SECONDS, self._process.kill)
        hang.start()
        try:
            line = self._process.stdout.readline()
        finally:
            hang.cancel()
        if not line:
            raise self._failure()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContestantFailed(f"{self.way}: {answer['error']}")
        return answer

    def _failure(self) -> ContestantFailed:
        self._process.wait()
        self._log.seek(0)
        last = (self._log.read().strip().splitlines() or [f"exit code {self._process.returncode}"])[-1]
        return ContestantFailed(f"{self.way} ended: {last}")


def take_turns(
    contestants: Sequence[Contestant], batch_size: int, min_seconds: float, min_runs: int, rounds: int = ROUNDS
) -> dict[str, dict[str, Any]]:
    """Time each contestant `rounds` times, in turn, so that whatever else the machine does hits all of them.

    Returns:
        By way: its row as `runtime.timing.figures`, its memory, and `times_ours`, the median over rounds of its median
        latency over that of the first contestant; or `error` in place of these, for whoever broke.
    """
    samples: dict[str, list[list[int]]] = {contestant.way: [] for contestant in contestants}
    rows: dict[str, dict[str, Any]] = {contestant.way: {} for contestant in contestants}
    runs = max(1, -(-min_runs // rounds))
    for turn in range(rounds):
        first = turn % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            row = rows[contestant.way]
            if "error" in row:
                continue
            try:
                answer = contestant.time(batch_size, min_seconds / rounds, runs)
            except ContestantFailed as error:
                rows[contestant.way] = {"batch_size": batch_size, "error": str(error)}
                continue
            samples[contestant.way].append(answer.pop("nanoseconds"))
            row |= answer
    ours = samples[contestants[0].way]
    for way, row in rows.items():
        if "error" not in row:
            row |= figures(batch_size, [nanoseconds for taken in samples[way] for nanoseconds in taken])
            ratios = [statistics.median(t) / statistics.median(o) for t, o in zip(samples[way], ours, strict=False)]
            row["times_ours"] = round(statistics.median(ratios), 3) if ratios else None
    return rows


def check_ways(ways: Sequence[str]) -> None:
    """Raise UsageError unless all of them are known."""
    if unknown := [way for way in ways if way not in WAYS]:
        raise UsageError(
            f"there is no way {', '.join(map(repr, unknown))} to compare with; expected some of {', '.join(WAYS)}"
        )


def compare(
    ways: Sequence[str],
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
    """Run `ways` against this runtime, in turn, batch size by batch size; what is not installed is said, not run.

    Raises:
        UsageError: no such way, or a number makes no sense.
        ContestantFailed: this runtime itself cannot run the model.
    """
    check_ways(ways)
    check_measuring(batch_sizes, min_seconds, min_runs)
    checkpoint = file.parent / CHECKPOINT
    contestants: list[Contestant] = []
    absent: dict[str, str] = {}
    try:
        for way in (OURS, *(way for way in dict.fromkeys(ways) if way != OURS)):
            if way.startswith("torch") and not checkpoint.is_file():
                absent[way] = f"{way} needs the weights in {checkpoint}, which is missing"
                continue
            try:
                contestant = Contestant(
                    way,
                    file,
                    device if way == OURS else device.replace("tensorrt", "cuda"),  # the same GPU
                    threads=threads,
                    precision="tf32" if tf32 else "fp32",
                    network=network,
                    checkpoint=checkpoint if way.startswith("torch") else None,
                )
            except ContestantFailed as error:
                if way == OURS:
                    raise
                absent[way] = str(error)
                continue
            contestants.append(contestant)
        rows = []
        for batch_size in batch_sizes:
            rows.append(take_turns(contestants, batch_size, min_seconds, min_runs))
            if progress is not None:
                progress(1)
        return {
            "ways": {c.way: {"version": c.version, "cold_start_ms": c.cold_start_ms} for c in contestants},
            "not_run": absent,
            "rounds": ROUNDS,
            "batches": rows,
        }
    finally:
        for contestant in contestants:
            contestant.__exit__(None, None, None)
