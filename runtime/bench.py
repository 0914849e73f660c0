"""How fast a model is on this machine: a cold start in its parts, then latency and throughput by batch size.

Every run after the warm-up counts; none is dropped as an outlier, since the slow ones are what a user waits for.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from runtime.classifier import Classifier
from runtime.contract import SIDE
from runtime.errors import FashionZooError, UsageError
from runtime.threads import available_cpus, explain_threads

BATCH_SIZES = (1, 8, 64, 256)
WARM_UP_RUNS = 10
COLD_STARTS = 3
PERCENTILES = (50, 90, 95, 99)
# Runs in a process of its own. Every part is what a user waits for, so Python's own start counts as well.
_COLD_START = """
import json, sys, time
began = time.perf_counter()
import numpy, onnxruntime
from runtime.classifier import Classifier
imported = time.perf_counter()
request = json.loads(sys.argv[1])
classifier = Classifier(request["model"], device=request["device"], threads=request["threads"])
opened = time.perf_counter()
classifier.logits(numpy.zeros((1, 1, 28, 28), numpy.uint8))
ran = time.perf_counter()
print(json.dumps({"import": imported - began, "session": opened - imported, "first_run": ran - opened}))
"""


def measure_bench(
    classifier: Classifier,
    *,
    threads: int | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    min_seconds: float = 1.0,
    min_runs: int = 100,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Return all figures, with the conditions they hold for; times in milliseconds.

    Args:
        classifier: the model, open.
        threads: what it was opened with, to open it again in fresh processes.
        batch_sizes: images a run.
        min_seconds, min_runs: a batch size is measured until both are reached.
        progress: told 1 after each cold start and each batch size.

    Raises:
        UsageError: a number makes no sense.
        FashionZooError: a fresh process could not open the model.
    """
    if not batch_sizes or min(batch_sizes) < 1 or min_runs < 1 or not 0 <= min_seconds <= 3600:
        raise UsageError(
            f"batch sizes {tuple(batch_sizes)}, {min_runs} runs, {min_seconds} s: expected at least one batch size, "
            "each at least 1, at least 1 run and from 0 to 3600 seconds"
        )
    tell = progress or (lambda _: None)
    load = _load()
    starts = []
    for _ in range(COLD_STARTS):
        starts.append(_cold_start(str(classifier.path), classifier.device, threads))
        tell(1)
    rows = []
    for batch_size in batch_sizes:
        rows.append(_steady(classifier, batch_size, min_seconds, min_runs))
        tell(1)
    return {
        "model": classifier.name,
        "file": str(classifier.path),
        "device": classifier.device,
        "providers": classifier.providers,
        "cold_start_ms": {part: round(statistics.median(start[part] for start in starts), 2) for part in starts[0]},
        "batches": rows,
        "conditions": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "pixels": "random uint8, seed 0",
            "call": "Classifier.logits, one caller, run after run",
            "cold_start": f"median of {COLD_STARTS} fresh processes, files in the system's cache",
            "warm_up_runs": WARM_UP_RUNS,
            "min_seconds": min_seconds,
            "min_runs": min_runs,
            "outliers": "none dropped",
            "threads": threads or available_cpus(),
            "threads_why": explain_threads() if threads is None else "asked for",
            "load_average": {"before": load, "after": _load()},
            "processor": _processor(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "onnxruntime": _onnxruntime_version(),
            "numpy": np.__version__,
        },
    }


def _cold_start(model: str, device: str, threads: int | None) -> dict[str, float]:
    """Return the milliseconds that a fresh process spends on each part, and `total`, which adds Python's own start."""
    request = json.dumps({"model": model, "device": device, "threads": threads})
    command = [sys.executable, "-c", _COLD_START, request]
    # The child must import this very package, however this process found it.
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    total = time.perf_counter() - began
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise FashionZooError(f"a fresh process could not open {model}: {reason}")
    parts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {part: 1000 * seconds for part, seconds in (parts | {"total": total}).items()}


def _steady(classifier: Classifier, batch_size: int, min_seconds: float, min_runs: int) -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 256, (batch_size, 1, SIDE, SIDE), dtype=np.uint8)
    for _ in range(WARM_UP_RUNS):
        classifier.logits(pixels, batch_size)
    nanoseconds: list[int] = []
    began = time.perf_counter()
    while len(nanoseconds) < min_runs or time.perf_counter() - began < min_seconds:
        started = time.perf_counter_ns()
        classifier.logits(pixels, batch_size)
        nanoseconds.append(time.perf_counter_ns() - started)
    milliseconds = np.array(nanoseconds) / 1e6
    latency = {f"p{percent}": float(np.percentile(milliseconds, percent)) for percent in PERCENTILES}
    latency |= {"mean": float(milliseconds.mean()), "max": float(milliseconds.max())}
    return {
        "batch_size": batch_size,
        "runs": len(nanoseconds),
        "latency_ms": {name: round(value, 4) for name, value in latency.items()},
        "images_per_second": round(batch_size * len(nanoseconds) / (milliseconds.sum() / 1000), 1),
    }


def _load() -> list[float] | None:
    """The load averages of 1, 5 and 15 minutes: figures taken on a busy machine should show it."""
    return [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _onnxruntime_version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)
