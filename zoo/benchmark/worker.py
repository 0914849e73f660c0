"""The process of one backend: opens a model and times it on request. `zoo.benchmark.compare` starts it.

    python -m zoo.benchmark.worker '{"backend": "torch", "file": ..., "device": "cpu", ...}'

Requests come as JSON, one a line, on stdin; answers go to stdout, and what libraries print goes to stderr.
"""

import contextlib
import importlib
import importlib.metadata
import json
import os
import sys
import time
from functools import partial
from typing import Any

import numpy as np

from zoo.benchmark.backends import BACKENDS


def main() -> None:
    """Open the backend that the first argument asks for, then answer requests until stdin ends."""
    began = time.perf_counter()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(document: dict[str, Any]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    from runtime.evaluation.timing import WARM_UP_RUNS, timed
    from runtime.model.spec import FASHION_MNIST
    from runtime.session.cuda import memory_used

    request = json.loads(sys.argv[1])
    kind, _, index = request["device"].partition(":")
    gpu = int(index or 0) if kind == "cuda" else None

    def used() -> int:
        return 0 if gpu is None else memory_used(gpu) or 0

    held = -used()  # only one worker is active at a time, so what its actions add is its own
    module, distribution, open_backend = BACKENDS[request["backend"]]
    try:
        try:
            importlib.import_module(module)
        except ImportError:
            answer({"error": f"{module} is not installed here: pip install {distribution}"})
            return
        imported = time.perf_counter()
        run = open_backend(request)
        opened = time.perf_counter()
        run(FASHION_MNIST.random(1))
        ran = time.perf_counter()
        held += used()
        parts = {"import": imported - began, "session": opened - imported, "first_run": ran - opened}
        parts["total"] = ran - began
        answer(
            {
                "cold_start_ms": {part: round(1000 * seconds, 2) for part, seconds in parts.items()},
                "version": _version(distribution) or getattr(sys.modules[module], "__version__", "unknown"),
            }
        )
        for line in sys.stdin:
            asked = json.loads(line)
            if "answer" in asked:
                files = asked["answer"]
                np.save(files["logits"], np.asarray(run(np.load(files["pixels"]))))
                answer({})
                continue
            wanted = asked["time"]
            pixels = FASHION_MNIST.random(wanted["batch_size"])
            held -= used()
            for _ in range(min(WARM_UP_RUNS, wanted["min_runs"])):
                run(pixels)
            nanoseconds = timed(partial(run, pixels), wanted["min_seconds"], wanted["min_runs"])
            held += used()
            answer(
                {
                    "nanoseconds": nanoseconds,
                    "resident_mib": _peak_resident_mib(),
                    "device_mib": None if gpu is None else round(held / 2**20, 1),
                }
            )
    except Exception as error:  # whatever a library raises: the caller makes one sentence of it
        answer({"error": " ".join(str(error).split()) or type(error).__name__})


def _peak_resident_mib() -> float:
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _version(distribution: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    return None


if __name__ == "__main__":
    main()
