"""How many labelled pictures a model gets right, without PyTorch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.classifier import DEFAULT_BATCH_SIZE, Classifier
from runtime.errors import UsageError


@dataclass(frozen=True)
class AccuracyReport:
    """`confusion` is int64 (K, K): row by true class, column by predicted class."""

    model: str
    labels: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    device: str
    providers: list[str]
    seconds: float
    tf32: bool = False

    @property
    def n(self) -> int:
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        return int(self.confusion.trace())

    @property
    def top1(self) -> float:
        return self.correct / self.n

    def per_class(self) -> list[tuple[str, int, int]]:
        """Return (label, correct, n) for each class."""
        rows = zip(self.labels, self.confusion.diagonal().tolist(), self.confusion.sum(axis=1).tolist(), strict=True)
        return list(rows)

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "n": self.n,
            "correct": self.correct,
            "top1": self.top1,
            "confusion": self.confusion.tolist(),
            "device": self.device,
            "providers": self.providers,
            "seconds": round(self.seconds, 4),
            "images_per_second": round(self.n / self.seconds, 1),
        } | ({} if self.device == "cpu" else {"tf32": self.tf32})


def measure_accuracy(
    classifier: Classifier,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: Callable[[int], None] | None = None,
) -> AccuracyReport:
    """Classify images: uint8 (N, 1, 28, 28) and compare with labels: uint8 (N,); `progress` is told of each batch.

    Raises:
        UsageError: there are no images, or not as many labels.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise UsageError(f"expected pictures and as many labels, found {len(images)} and {len(labels)}")
    classes = len(classifier.labels)
    confusion = np.zeros((classes, classes), np.int64)
    started = time.perf_counter()
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        predicted = classifier.logits(images[chosen], batch_size).argmax(axis=1)
        np.add.at(confusion, (labels[chosen], predicted), 1)
        if progress is not None:
            progress(len(predicted))
    seconds = time.perf_counter() - started
    return AccuracyReport(
        classifier.name, classifier.labels, confusion, classifier.device, classifier.providers, seconds, classifier.tf32
    )
