"""The process of one backend: opens a model and times it on request. `zoo.benchmark.compare.Worker` starts it.

Requests are lines of JSON on stdin: the first says what to open, the others have `pixels` to be classified or a
`batch_size` to be timed. Each is answered by a line on stdout. What libraries print goes to stderr.
"""

import contextlib
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from zoo.benchmark.backends import BACKENDS


def main() -> None:
    """Answer requests until stdin ends, or until one fails, whose answer is an `error`."""
    began = time.perf_counter()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**document: Any) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    try:
        _serve(began, answer)
    except Exception as error:  # whatever a library raises
        answer(error=" ".join(str(error).split()) or type(error).__name__)


def _serve(began: float, answer: Callable[..., None]) -> None:
    import resource

    from runtime.evaluation.timing import WARM_UP_RUNS, timed
    from runtime.model.spec import FASHION_MNIST
    from runtime.session.cuda import memory_used

    request = json.loads(sys.stdin.readline())
    kind, _, index = request["device"].partition(":")
    gpu = int(index or 0) if kind == "cuda" else None

    def used() -> int:
        return 0 if gpu is None else memory_used(gpu) or 0

    held = -used()  # only one worker is active at a time, so that an increase during a request is its own
    module, distribution, open_backend = BACKENDS[request["backend"]]
    try:
        importlib.import_module(module)
    except ImportError:
        raise RuntimeError(f"{module} is not installed here: pip install {distribution}") from None
    imported = time.perf_counter()
    run = open_backend(request)
    opened = time.perf_counter()
    run(FASHION_MNIST.random(1))
    ran = time.perf_counter()
    held += used()
    parts = {"import": imported - began, "session": opened - imported, "first_run": ran - opened, "total": ran - began}
    answer(
        cold_start_ms={part: round(1000 * seconds, 2) for part, seconds in parts.items()},
        version=_version(distribution) or getattr(sys.modules[module], "__version__", "unknown"),
    )
    for line in sys.stdin:
        request = json.loads(line)
        if "pixels" in request:
            answer(logits=np.asarray(run(np.array(request["pixels"], dtype=np.uint8))).tolist())
            continue
        pixels = FASHION_MNIST.random(request["batch_size"])
        held -= used()
        for _ in range(min(WARM_UP_RUNS, request["min_runs"])):
            run(pixels)
        nanoseconds = timed(partial(run, pixels), request["min_seconds"], request["min_runs"])
        held += used()
        answer(
            nanoseconds=nanoseconds,
            resident_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            device_mib=None if gpu is None else round(held / 2**20, 1),
        )


def _version(distribution: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    return None


if __name__ == "__main__":
    main()
