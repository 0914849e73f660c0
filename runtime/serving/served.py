"""One model that is being served: its classifier, its batches, and whether it is warm."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from runtime.classifier import Classifier
from runtime.contract import SIDE
from runtime.errors import FashionZooError
from runtime.serving.batcher import Batcher
from runtime.serving.limits import Limits
from runtime.serving.reply import Reply

WARM_UP_SECONDS = 0.25  # on a CPU, a batch size that takes longer is the last one tried


class ModelJob(Protocol):
    """Images in, a reply out; `images` and `answer` are called in the batch's thread, the rest in the loop's."""

    @property
    def rows(self) -> int: ...
    def gone(self) -> bool: ...
    def images(self) -> npt.NDArray[np.uint8]: ...
    def answer(self, logits: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32], /) -> Reply: ...


class ServedModel:
    """Answers jobs in batches.

    Attributes:
        name: what requests call it.
        classifier: the model, open.
        ready: whether it has been warmed up.
    """

    def __init__(self, classifier: Classifier, limits: Limits, on_batch: Callable[[int, int], None]) -> None:
        self.classifier = classifier
        self.name = classifier.name
        self.ready = False
        self._max_batch = limits.max_batch
        self._batcher: Batcher[ModelJob, Reply] = Batcher(
            self._run, max_rows=limits.max_batch, max_wait=limits.max_wait, on_batch=on_batch, name=self.name
        )

    async def ask(self, job: ModelJob) -> Reply:
        """Return the reply to a job. Raises as `Batcher.ask`, and what the job itself raised."""
        return await self._batcher.ask(job)

    def warm_up(self) -> None:
        """Run batches of growing size once, so that no client waits for what happens only the first time.

        In the thread that will run all others: what CUDA prepares, it prepares for a thread.

        Raises:
            FashionZooError: the device failed.
        """
        try:
            self._batcher.first(self._warm_up)
        except FashionZooError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise FashionZooError(
                f"{self.name} cannot be warmed up on {self.classifier.device}: {reason}; try another --device"
            ) from error
        self.ready = True

    def _warm_up(self) -> None:
        powers = {2**power for power in range(self._max_batch.bit_length())}
        for size in sorted(powers | {self._max_batch}):
            began = time.perf_counter()
            self.classifier.outputs(np.zeros((size, 1, SIDE, SIDE), np.uint8), size)
            # A GPU prepares each size once, however long that takes; a CPU only has to have begun.
            if self.classifier.device == "cpu" and time.perf_counter() - began > WARM_UP_SECONDS:
                break

    def close(self) -> None:
        """Start no more batches."""
        self._batcher.close()

    def _run(self, jobs: Sequence[ModelJob]) -> list[Reply | Exception]:
        """Run the network once and answer each job: in one thread, which is handed over to once a batch."""
        results: list[Reply | Exception] = []
        images: list[npt.NDArray[np.uint8]] = []
        for job in jobs:
            try:
                images.append(job.images())
                results.append(_PENDING)
            except Exception as error:  # whatever one job does, the others are answered
                results.append(error)
        if not images:
            return results
        stacked = images[0] if len(images) == 1 else np.concatenate(images)
        logits, probabilities = self.classifier.outputs(stacked, self._max_batch)
        start = 0
        for index, job in enumerate(jobs):
            if results[index] is _PENDING:
                end = start + job.rows
                results[index] = job.answer(logits[start:end], probabilities[start:end])
                start = end
        return results


_PENDING = Reply(b"")
