"""Time a function run after run, and summarise the times.

Every run after the warm-up counts; none is dropped as an outlier, since the slow ones are what a user waits for.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from runtime.session.device import available_cpus, explain_threads

WARM_UP_RUNS = 10
PERCENTILES = (50, 90, 95, 99)


def timed(call: Callable[[], Any], min_seconds: float, min_runs: int) -> list[int]:
    """Return the nanoseconds of each run, until both minima are reached."""
    nanoseconds: list[int] = []
    began = time.perf_counter()
    while len(nanoseconds) < min_runs or time.perf_counter() - began < min_seconds:
        started = time.perf_counter_ns()
        call()
        nanoseconds.append(time.perf_counter_ns() - started)
    return nanoseconds


def figures(batch_size: int, nanoseconds: Sequence[int]) -> dict[str, Any]:
    """Return the row of one batch size: runs, latency in milliseconds by percentile, mean and maximum, images/s."""
    milliseconds = np.array(nanoseconds) / 1e6
    latency = {f"p{percent}": float(np.percentile(milliseconds, percent)) for percent in PERCENTILES}
    latency |= {"mean": float(milliseconds.mean()), "max": float(milliseconds.max())}
    return {
        "batch_size": batch_size,
        "runs": len(nanoseconds),
        "latency_ms": {name: round(value, 4) for name, value in latency.items()},
        "images_per_second": round(batch_size * len(nanoseconds) / (milliseconds.sum() / 1000), 1),
    }


def conditions(threads: int | None) -> dict[str, Any]:
    """Return the date, the machine, the versions and the threads that figures hold for."""
    import onnxruntime

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "pixels": "random levels, seed 0",
        "outliers": "none dropped",
        "threads": threads or available_cpus(),
        "threads_why": explain_threads() if threads is None else "asked for",
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


def load_average() -> list[float] | None:
    """The load averages of 1, 5 and 15 minutes: figures taken on a busy machine should show it."""
    return [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None


def processor() -> str:
    """Return the name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
