"""The served models, each with its batcher."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from starlette.exceptions import HTTPException

from runtime.classifier import Classifier
from runtime.errors import FashionZooError, UsageError, quoted
from runtime.model.spec import Array
from runtime.serving.batcher import Batcher
from runtime.serving.limits import Limits
from runtime.serving.metrics import Metrics
from runtime.serving.statistics import Statistics

WARM_UP_SECONDS = 0.25  # on a CPU, a batch size that takes longer is the last one tried

Images: TypeAlias = Array  # (N, C, H, W), as the model's input says
Outputs: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # logits, probabilities; each (N, K)


class ServedModel:
    """Runs images of all requests in batches.

    Attributes:
        name: what requests call it.
        classifier: the model, open.
        max_batch: images that are run together.
        max_wait: seconds for which an image waits for others.
        statistics: what has been answered.
    """

    def __init__(self, classifier: Classifier, limits: Limits, on_batch: Callable[[int, int], None]) -> None:
        self.classifier = classifier
        self.name = classifier.name
        self.max_batch, self.max_wait = limits.max_batch, limits.max_wait
        self.statistics = Statistics()
        self._batcher: Batcher[Images, tuple[Outputs, int]] = Batcher(
            self._run, max_rows=limits.max_batch, max_wait=limits.max_wait, on_batch=on_batch, name=self.name
        )

    async def outputs(self, pixels: Images) -> Outputs:
        """Return logits and probabilities, each float32 (N, K), of checked images (N, C, H, W)."""
        began = time.perf_counter_ns()
        try:
            outputs, computing = await self._batcher.ask(pixels)
        except Exception:
            self.statistics.failed(time.perf_counter_ns() - began)
            raise
        self.statistics.answered(len(pixels), time.perf_counter_ns() - began, computing)
        return outputs

    def warm_up(self) -> None:
        """Run batches of growing size once, so that no client waits for what happens only the first time.

        In the thread that will run all others: what CUDA prepares, it prepares for a thread.
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

    def _warm_up(self) -> None:
        powers = {2**power for power in range(self.max_batch.bit_length())}
        for size in sorted(powers | {self.max_batch}):
            began = time.perf_counter()
            self.classifier.outputs(self.classifier.input.zeros(size), size)
            # A GPU prepares each size once, however long that takes; a CPU only has to have begun.
            if self.classifier.device == "cpu" and time.perf_counter() - began > WARM_UP_SECONDS:
                break

    def close(self) -> None:
        """Start no more batches."""
        self._batcher.close()

    def _run(self, jobs: Sequence[Images]) -> list[tuple[Outputs, int]]:
        """Return each job's outputs, and the nanoseconds that their batch took."""
        began = time.perf_counter_ns()
        pixels = np.concatenate(jobs)
        logits, probabilities = self.classifier.outputs(pixels, self.max_batch)
        ends = np.cumsum([len(job) for job in jobs])[:-1]
        outputs = zip(np.split(logits, ends), np.split(probabilities, ends), strict=True)
        computing = time.perf_counter_ns() - began
        self.statistics.executed(len(pixels), computing)
        return [(each, computing) for each in outputs]

    def as_dict(self) -> dict[str, Any]:
        """Return what a reader may want to know before choosing a model; accuracy is a share of 1, or null."""
        accuracy = self.classifier.metadata.fields.get("accuracy")
        return {
            "name": self.name,
            "accuracy": accuracy.get("top1") if isinstance(accuracy, dict) else None,
            "device": self.classifier.device,
            "labels": list(self.classifier.labels),
            "input": self.classifier.input.as_dict(),
        }


class Models:
    """The models by name; the first is the one that is meant where no name is given.

    Raises:
        UsageError: no model, or two of one name.
    """

    def __init__(self, classifiers: Sequence[Classifier], limits: Limits, metrics: Metrics) -> None:
        self._models: dict[str, ServedModel] = {}
        for classifier in classifiers:
            if classifier.name in self._models:
                raise UsageError(f"two models are called {classifier.name!r}; serve one of them, or rename the other")
            self._models[classifier.name] = ServedModel(classifier, limits, metrics.batches(classifier.name))
        if not self._models:
            raise UsageError("there is no model to serve; name at least one")

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def get(self, name: str | None) -> ServedModel:
        """Return a model by name, or the first; raise 404 where there is none of that name."""
        if name is None:
            return next(iter(self))
        if name not in self._models:
            served = ", ".join(self._models)
            raise HTTPException(404, f"the model {quoted(name)} is not served here; served are {served}")
        return self._models[name]

    def close(self) -> None:
        """Start nothing more; what is running is not waited for."""
        for model in self:
            model.close()
