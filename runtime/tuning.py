"""Session settings that change the speed and not the answers. `runtime bench --sweep` measures them on a machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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


ALGORITHMS = ("HEURISTIC", "EXHAUSTIVE", "DEFAULT")
