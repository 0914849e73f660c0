"""Accuracy on labelled pictures, without PyTorch.

Classes are compared by name. The data's index of a class and the file's may differ, so each class of the data is first
mapped to the file's label of the same name; data with a class that the file does not know are refused.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.classifier import Classifier, require_count
from runtime.datasets.fashion_mnist import LABELS
from runtime.errors import UsageError
from runtime.evaluation.labels import class_indices


@dataclass(frozen=True)
class AccuracyReport:
    """`confusion` is int64 (K, K): row by true class, column by predicted class, both in the order of `labels`."""

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
        """Return the report as JSON; `labels`, in the order of `confusion`, where they are not Fashion-MNIST's."""
        return (
            {
                "model": self.model,
                "n": self.n,
                "correct": self.correct,
                "top1": self.top1,
                "confusion": self.confusion.tolist(),
                "device": self.device,
                "providers": self.providers,
                "seconds": round(self.seconds, 4),
                "images_per_second": round(self.n / self.seconds, 1),
            }
            | ({} if self.labels == LABELS else {"labels": list(self.labels)})
            | ({} if self.device == "cpu" else {"tf32": self.tf32})
        )


def measure_accuracy(
    classifier: Classifier,
    images: npt.NDArray[np.uint8],
    labels: npt.ArrayLike,
    batch_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> AccuracyReport:
    """Classify images of Fashion-MNIST and compare the answers with their true classes, by name.

    Args:
        classifier: the model; every class of the data must be one of its labels, in any order. It may have others.
        images: uint8 (N, C, H, W), of the shape that the model takes.
        labels: whole numbers (N,), the true classes as indices into `LABELS`.
        batch_size: images a run; by default the classifier's.
        progress: told the size of each batch.

    Raises:
        UsageError: a class of the data is none of the model, which the sentence names; there are no images, or not as
            many labels; a label is no index of a class; or the model takes images of another shape.
    """
    batch_size = classifier.batch_size if batch_size is None else batch_size
    require_count("the batch size", batch_size)
    require_shape(classifier, images.shape[1:])
    labels = np.asarray(labels)
    if len(images) == 0 or len(images) != len(labels):
        raise UsageError(f"expected pictures and as many labels, found {len(images)} and {len(labels)}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UsageError(f"expected labels as whole numbers (N,), found {labels.dtype} {labels.shape}")
    if not 0 <= labels.min() <= labels.max() < len(LABELS):
        raise UsageError(f"expected labels from 0 to {len(LABELS) - 1}, found {labels.min()} to {labels.max()}")
    try:
        own = class_indices(LABELS, classifier.labels, data="Fashion-MNIST", model=f"the model {classifier.name!r}")
    except UsageError as error:
        raise UsageError(f"{error}; measure it on pictures of its own classes: runtime accuracy DIR") from error
    classes = len(classifier.labels)
    confusion = np.zeros((classes, classes), np.int64)
    started = time.perf_counter()
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        predicted = classifier.logits(classifier.input.from_levels(images[chosen]), batch_size).argmax(axis=1)
        np.add.at(confusion, (own[labels[chosen]], predicted), 1)
        if progress is not None:
            progress(len(predicted))
    seconds = time.perf_counter() - started
    return AccuracyReport(
        classifier.name, classifier.labels, confusion, classifier.device, classifier.providers, seconds, classifier.tf32
    )


def require_shape(classifier: Classifier, shape: tuple[int, ...]) -> None:
    """Raise UsageError where a model takes other images than those of this (C, H, W), those of Fashion-MNIST."""
    if classifier.input.shape != shape:
        raise UsageError(
            f"the model {classifier.name!r} takes images {classifier.input.shape}, and those of Fashion-MNIST are "
            f"{shape}; measure it on pictures of its own classes: runtime accuracy DIR"
        )
