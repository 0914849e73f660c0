"""How fast a quantised file is on this machine against the same graph in float32, both run in turn."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.convert.quantize import without_quantization
from runtime.errors import FashionZooError
from runtime.evaluation.timing import timed
from runtime.model.spec import INPUT
from runtime.session.session import open_session

BATCHES = (1, 64)
ROUNDS, SECONDS = 12, 0.05  # of either file in a round, at least one run


def adds_products_in_32_bits() -> bool:
    """Whether this CPU multiplies uint8 by int8 without saturation: an x86 one needs VNNI for that, and without it adds
    each two products in 16 bits. True where the instruction sets are not known."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return True
    return "avx2" not in flags or not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)


@dataclass(frozen=True)
class Speed:
    """Of one batch size: milliseconds of a batch, the median of the rounds; `slower` is in how many of them the file
    was slower than float32."""

    batch: int
    float32_ms: float
    quantized_ms: float
    slower: int
    rounds: int

    @property
    def ratio(self) -> float:
        return self.float32_ms / self.quantized_ms

    @property
    def is_slower(self) -> bool:
        """Whether the file was slower in three rounds of four: others may disturb some."""
        return 4 * self.slower >= 3 * self.rounds

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio}


class NotFaster(FashionZooError):
    """The quantised file is slower here than float32."""


def measure_speed(content: bytes, images: npt.NDArray[Any], device: str = "cpu") -> list[Speed]:
    """Time a quantised file and the same graph in float32 in turn; `images` are repeated to the batch sizes."""
    plain = without_quantization(onnx.load_from_string(content)).SerializeToString()
    sessions = [open_session(each, device, what="the file").session for each in (plain, content)]
    found = []
    for batch in BATCHES:
        feed = {INPUT: np.resize(images, (batch, *images.shape[1:]))}
        runs = [partial(session.run, None, feed) for session in sessions]
        for run in runs:
            run()
        rounds = np.array([[np.mean(timed(run, SECONDS, 1)) / 1e6 for run in runs] for _ in range(ROUNDS)])
        before, after = np.median(rounds, axis=0)
        slower = int((rounds[:, 1] > rounds[:, 0]).sum())
        found.append(Speed(batch, float(before), float(after), slower, ROUNDS))
    return found


def require_faster(speeds: list[Speed]) -> None:
    """Raise NotFaster where the file is slower at one of the batch sizes."""
    for speed in speeds:
        if speed.is_slower:
            raise NotFaster(
                f"int8 is slower than float32 on this machine: {speed.quantized_ms:.3g} ms in place of "
                f"{speed.float32_ms:.3g} for a batch of {speed.batch}; export it as fp32, or ask for size alone with "
                "--for size (in Python, purpose='size')"
            )
