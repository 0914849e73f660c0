"""What benchmarks share: turns, and the hardware, the versions and the date that each writes beside its figures."""

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # who imports this file first runs from a checkout that is not installed

from runtime.evaluation.timing import processor  # noqa: E402
from runtime.session.cuda import find_driver, list_gpus  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
_LIBRARIES = ("torch", "torchvision", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow", "click")


def conditions() -> dict[str, Any]:
    """Return date, processor, instruction sets, cores, the first GPU and its driver, Python and library versions."""
    versions = {}
    gpus, driver = list_gpus(), find_driver()
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "instruction_sets": _instruction_sets(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": gpus[0].name if gpus else None,
        "driver": driver and driver.version,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def _instruction_sets() -> list[str]:
    """Return the vector and matrix instructions of this CPU on which speed depends, as Linux lists them."""
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    try:
        flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    except OSError:
        return []
    return [name for name in wanted if name in flags]


def in_turn(methods: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """Call each method in each round, and return what they gave by name. Every second round goes the other way, so that
    a change of the machine's speed affects all of them alike."""
    results: dict[str, list[Any]] = {name: [] for name in methods}
    for turn in range(rounds):
        for name in sorted(methods, reverse=bool(turn % 2)):
            results[name].append(methods[name]())
            print(name, results[name][-1], file=sys.stderr, flush=True)
    return results


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def save(name: str, figures: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `<name>.json` into the folder of results and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"conditions": conditions()} | figures, indent=2) + "\n")
    return path
