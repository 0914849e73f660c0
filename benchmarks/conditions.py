"""The hardware, the versions and the date that every benchmark writes beside its figures."""

import importlib.metadata
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runtime.evaluation.timing import processor
from runtime.session.cuda import find_driver, list_gpus

RESULTS = Path(__file__).parent / "results"
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


def save(name: str, figures: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `<name>.json` into the folder of results and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"conditions": conditions()} | figures, indent=2) + "\n")
    return path
