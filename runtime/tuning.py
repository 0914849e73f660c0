"""How a device is to be used, apart from what it computes: settings that change the speed and not the answers.

`runtime bench --sweep` measures the settings of a GPU and remembers the best, by GPU, driver, onnxruntime and model, in
`$ZOO_HOME/tuning/`; a session on that GPU then opens with them. Nothing else writes there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from runtime.home import home


@dataclass(frozen=True)
class Tuning:
    """Settings of one session; the defaults need no measuring.

    Attributes:
        algorithms: how cuDNN chooses a convolution (onnxruntime's `cudnn_conv_algo_search`). Since onnxruntime 1.20
            HEURISTIC asks cuDNN's heuristics in mode A, which NVIDIA recommends, EXHAUSTIVE, onnxruntime's own default,
            in mode B, and DEFAULT takes the fallback, which others saw run 50 times slower
            (github.com/microsoft/onnxruntime/issues/22705).
        graphs: whether batches are captured as CUDA graphs and replayed, which saves a launch for every node.
        nhwc: whether onnxruntime lays activations out with the channels last (`prefer_nhwc`), as tensor cores read.
        spin_us: microseconds for which an idle CPU thread spins for more work before it sleeps. 100 outlasts what lies
            between the nodes of a run, so that none begins with waking a thread: on two idle cores `lenet` is then
            1.3x as fast at 1 and at 64 as with 0, and as fast as with onnxruntime's default, which burns the cores
            on after each run. Where processes contend for the cores, 0 is faster, and `threads=1` for each fastest.
    """

    algorithms: str = "HEURISTIC"
    graphs: bool = True
    nhwc: bool = False
    spin_us: int = 100

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def remembered(sha256: str, index: int) -> Tuning:
    """Return what was measured best for this model on GPU `index`, or the defaults."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):  # a damaged note is no note
        stored = json.loads(_note(sha256, index).read_bytes())["tuning"]
        if {name: type(value) for name, value in stored.items()} == _TYPES and stored["algorithms"] in ALGORITHMS:
            return Tuning(**stored)
    return Tuning()


def remember(sha256: str, index: int, tuning: Tuning, measured: dict[str, Any]) -> Path:
    """Keep `tuning` for this model on GPU `index`, with the measurement that chose it; return the file.

    Raises:
        OSError: it cannot be written.
    """
    from runtime.atomic import write_bytes

    path = _note(sha256, index)
    document = {"machine": _machine(index), "sha256": sha256, "tuning": tuning.as_dict(), "measured": measured}
    write_bytes(path, (json.dumps(document, indent=2) + "\n").encode())
    return path


ALGORITHMS = ("HEURISTIC", "EXHAUSTIVE", "DEFAULT")
_TYPES = {field.name: type(field.default) for field in fields(Tuning)}


def _note(sha256: str, index: int) -> Path:
    key = json.dumps([sha256, _machine(index)], sort_keys=True)
    return home() / "tuning" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _machine(index: int) -> dict[str, str | None]:
    import onnxruntime

    from runtime.gpus import find_driver, list_gpus

    gpus, driver = list_gpus(), find_driver()
    return {
        "gpu": gpus[index].name if index < len(gpus) else None,
        "driver": driver and driver.version,
        "onnxruntime": onnxruntime.__version__,
    }
