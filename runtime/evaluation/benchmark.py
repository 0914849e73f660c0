"""Benchmark a model on this machine: cold start in its parts, then latency and throughput by batch size."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from runtime.classifier import Classifier
from runtime.errors import FashionZooError, UsageError
from runtime.evaluation.timing import WARM_UP_RUNS, conditions, figures, load_average, timed

BATCH_SIZES = (1, 8, 64, 256)
COLD_STARTS = 3
# Runs in a process of its own. Every part is what a user waits for, so Python's own start counts as well.
_COLD_START = """
import json, sys, time
began = time.perf_counter()
import numpy, onnxruntime
from runtime.classifier import Classifier
imported = time.perf_counter()
request = json.loads(sys.argv[1])
classifier = Classifier(request.pop("model"), **request)
opened = time.perf_counter()
classifier.logits(classifier.input.zeros(1))
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
        threads: what the classifier was opened with, to open it again in fresh processes.
        min_seconds, min_runs: a batch size is measured until both are reached.
        progress: told 1 after each cold start and each batch size.

    Raises:
        UsageError: a number makes no sense.
        FashionZooError: a fresh process could not open the model.
    """
    check_measuring(batch_sizes, min_seconds, min_runs)
    tell = progress or (lambda _: None)
    load = load_average()
    starts = []
    for _ in range(COLD_STARTS):
        starts.append(_cold_start(classifier, threads))
        tell(1)
    rows = []
    for batch_size in batch_sizes:
        pixels = classifier.input.random(batch_size)
        for _ in range(WARM_UP_RUNS):
            classifier.logits(pixels, batch_size)
        run = partial(classifier.logits, pixels, batch_size)
        rows.append(figures(batch_size, timed(run, min_seconds, min_runs)))
        tell(1)
    return {
        "model": classifier.name,
        "file": str(classifier.path),
        "device": classifier.device,
        "providers": classifier.providers,
        "cold_start_ms": {part: round(statistics.median(start[part] for start in starts), 2) for part in starts[0]},
        "batches": rows,
        "conditions": conditions(threads)
        | {
            "call": "Classifier.logits, one caller, run after run",
            "cold_start": f"median of {COLD_STARTS} fresh processes, files in the system's cache",
            "warm_up_runs": WARM_UP_RUNS,
            "min_seconds": min_seconds,
            "min_runs": min_runs,
            "load_average": {"before": load, "after": load_average()},
            "gpu": classifier.info()["gpu"],
        },
    }


def check_measuring(batch_sizes: Sequence[int], min_seconds: float, min_runs: int) -> None:
    """Raise UsageError unless the numbers make sense."""
    if not batch_sizes or min(batch_sizes) < 1 or min_runs < 1 or not 0 <= min_seconds <= 3600:
        raise UsageError(
            f"batch sizes {tuple(batch_sizes)}, {min_runs} runs, {min_seconds} s: expected at least one batch size, "
            "each at least 1, at least 1 run and from 0 to 3600 seconds"
        )


def _cold_start(classifier: Classifier, threads: int | None) -> dict[str, float]:
    """Return the milliseconds that a fresh process spends on each part, and `total`, which adds Python's own start."""
    model = os.path.abspath(classifier.path)  # a bare file name might be taken for a model's
    request = {"model": model, "device": classifier.device, "threads": threads, "tf32": classifier.tf32}
    # -P: the working folder holds files of the user's, whose names may be those of modules.
    command = [sys.executable, "-P", "-c", _COLD_START, json.dumps(request)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=same_package(), check=False)
    total = time.perf_counter() - began
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise FashionZooError(f"a fresh process could not open {model}: {reason}")
    parts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {part: 1000 * seconds for part, seconds in (parts | {"total": total}).items()}


def same_package() -> dict[str, str]:
    """Return an environment in which a child imports this very package, however this process found it."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
