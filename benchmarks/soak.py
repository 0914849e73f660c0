"""Mixed batch sizes from several threads for minutes: every answer as in series, no error, and memory that stays flat.

python benchmarks/soak.py --minutes 10 --threads 8 --device cpu
"""

import argparse
import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout that is not installed

import conditions
import numpy as np

from runtime import Classifier, fashion_mnist
from runtime.gpus import memory_used
from runtime.storage import write_bytes

SIZES = (1, 2, 3, 7, 8, 9, 31, 32, 33, 64, 100, 128, 200, 256, 257, 500)
WARM_UP = 0.2  # share of the time after which memory should have reached its level
ALLOWED = 1.05
TOLERANCE = 1e-4  # between batches of another size; the class must be the same


def resident_bytes() -> int:
    """The memory of this process that is in RAM now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def soak(classifier: Classifier, seconds: float, threads: int) -> dict[str, Any]:
    """Run until the time is over; return counts, errors, and memory by time."""
    images = fashion_mnist.load("test")[0][:2000]
    expected = classifier.logits(images, 256)
    gpu = int(classifier.device.partition(":")[2]) if classifier.device != "cpu" else None
    stop = threading.Event()
    calls, wrong, errors = [0] * threads, [0] * threads, []

    def work(index: int) -> None:
        rng = random.Random(index)
        while not stop.is_set():
            size = rng.choice(SIZES)
            start = rng.randrange(len(images) - size)
            try:
                logits = classifier.logits(images[start : start + size], rng.choice((64, 256, 1024)))
            except Exception as error:
                errors.append(f"{size} pictures: {type(error).__name__}: {error}")
                return
            serial = expected[start : start + size]
            same = np.array_equal(logits.argmax(axis=1), serial.argmax(axis=1))
            wrong[index] += not (same and np.allclose(logits, serial, atol=TOLERANCE))
            calls[index] += 1

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    samples: list[dict[str, float | None]] = []
    while time.monotonic() - began < seconds and any(worker.is_alive() for worker in workers):
        time.sleep(min(1.0, seconds / 50))
        used = None if gpu is None else memory_used(gpu)
        samples.append(
            {
                "seconds": round(time.monotonic() - began, 1),
                "resident_mib": round(resident_bytes() / 2**20, 1),
                "device_mib": None if used is None else round(used / 2**20, 1),
            }
        )
    stop.set()
    for worker in workers:
        worker.join()
    steady = [sample for sample in samples if (sample["seconds"] or 0) > WARM_UP * seconds] or samples
    growth = {
        kind: None if steady[0][kind] is None else round((steady[-1][kind] or 0) / (steady[0][kind] or 1), 4)
        for kind in ("resident_mib", "device_mib")
    }
    return {
        "what": f"{threads} threads, {SIZES} pictures a call at random; memory at the end over that after warm-up",
        "model": classifier.name,
        "device": classifier.device,
        "seconds": round(time.monotonic() - began, 1),
        "calls": sum(calls),
        "calls_that_differ": sum(wrong),
        "errors": errors,
        "growth": growth,
        "flat": all(ratio is None or ratio <= ALLOWED for ratio in growth.values()),
        "gpu": classifier.info()["gpu"],
        "memory": samples[:: max(1, len(samples) // 100)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with Classifier(arguments.model, device=arguments.device) as classifier:
        report = {"conditions": conditions.conditions()} | soak(classifier, 60 * arguments.minutes, arguments.threads)
    path = arguments.output or conditions.RESULTS / f"soak_{arguments.device.partition(':')[0]}.json"
    write_bytes(path, (json.dumps(report, indent=2) + "\n").encode())
    short = {key: report[key] for key in ("calls", "calls_that_differ", "errors", "growth", "flat")}
    print(json.dumps(short), path, sep="\n")
    if report["errors"] or report["calls_that_differ"] or not report["flat"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
