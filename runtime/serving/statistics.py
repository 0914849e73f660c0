"""What a model has answered: counts and durations, in the words of the statistics extension of NVIDIA Triton.

Source: its server's `docs/protocol/extension_statistics.md`. Durations are in nanoseconds and add up from the server's
start. `compute_input` and `compute_output`, which are part of `compute_infer` here, are left at 0, as is what only a
response cache counts.
"""

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any


@dataclass
class Duration:
    """How often something happened, and how long it took in all."""

    count: int = 0
    nanoseconds: int = 0

    def add(self, nanoseconds: int) -> None:
        self.count += 1
        self.nanoseconds += nanoseconds

    def as_dict(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.nanoseconds}


class Statistics:
    """The statistics of one model. `executed` is for the thread that runs batches, all else for the event loop's."""

    def __init__(self) -> None:
        self._success, self._fail, self._queue, self._compute = Duration(), Duration(), Duration(), Duration()
        self._batches: defaultdict[int, Duration] = defaultdict(Duration)
        self._images = self._last = 0

    def executed(self, images: int, nanoseconds: int) -> None:
        """Count a batch that has been run."""
        self._batches[images].add(nanoseconds)

    def answered(self, images: int, nanoseconds: int, computing: int) -> None:
        """Count a request: how long it was here, and for how much of that its batch was computed."""
        self._images += images
        self._last = time.time_ns() // 1_000_000
        self._success.add(nanoseconds)
        self._queue.add(nanoseconds - computing)
        self._compute.add(computing)

    def failed(self, nanoseconds: int) -> None:
        """Count a request whose batch failed."""
        self._fail.add(nanoseconds)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that the extension has for a version of a model."""
        nothing, batches = Duration().as_dict(), sorted(self._batches.copy().items())
        return {
            "last_inference": self._last,  # milliseconds since 1970
            "inference_count": self._images,
            "execution_count": sum(batch.count for _, batch in batches),
            "inference_stats": {
                "success": self._success.as_dict(),
                "fail": self._fail.as_dict(),
                "queue": self._queue.as_dict(),
                "compute_input": nothing,
                "compute_infer": self._compute.as_dict(),
                "compute_output": nothing,
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": nothing,
                    "compute_infer": batch.as_dict(),
                    "compute_output": nothing,
                }
                for size, batch in batches
            ],
        }
