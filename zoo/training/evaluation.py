"""Evaluate a network on a whole split: accuracy, by class, and calibration error."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runtime.datasets.fashion_mnist import LABELS
from runtime.evaluation.calibration import calibration_error, reliability, softmax
from zoo.data.dataset import LabelledImages


@dataclass(frozen=True)
class Evaluation:
    """logits: float32 (N, K) and labels: int64 (N,), on the CPU."""

    logits: Tensor
    labels: Tensor

    @property
    def correct(self) -> int:
        return int((self.logits.argmax(1) == self.labels).sum())

    @property
    def accuracy(self) -> float:
        return self.correct / len(self.labels)

    @property
    def confusion(self) -> Tensor:
        """int64 (K, K): row by true class, column by predicted class."""
        classes = self.logits.shape[1]
        pairs = self.labels * classes + self.logits.argmax(1)
        return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)

    def calibration_error(self, temperature: float = 1.0) -> float:
        """Return the expected calibration error of softmax(logits / temperature)."""
        return calibration_error(softmax(self.logits.numpy(), temperature), self.labels.numpy())

    def reliability(self, temperature: float = 1.0) -> list[dict[str, Any]]:
        """Return the reliability diagram of softmax(logits / temperature), see `runtime.evaluation.calibration`."""
        return reliability(softmax(self.logits.numpy(), temperature), self.labels.numpy())

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON: n, correct, top1, calibration_error, per_class, confusion."""
        confusion = self.confusion
        rows = zip(LABELS, confusion.diagonal().tolist(), confusion.sum(1).tolist(), strict=True)
        return {
            "n": len(self.labels),
            "correct": self.correct,
            "top1": self.accuracy,
            "calibration_error": self.calibration_error(),
            "per_class": [
                {"label": label, "correct": right, "n": n, "accuracy": right / max(1, n)} for label, right, n in rows
            ],
            "confusion": confusion.tolist(),
        }


def evaluate(model: nn.Module, data: LabelledImages) -> Evaluation:
    """Run `model` in evaluation mode over `data`, which is on the model's device; its mode is restored afterwards.

    Batches have 200 images, which take VGG-11 2 GB at 224 pixels, or fewer where a GPU's memory does not hold these.
    """
    was_training, batch_size = model.training, 200
    model.eval()
    try:
        while True:
            try:
                with torch.inference_mode():
                    logits = torch.cat([model(images) for images in torch.split(data.images, batch_size)])
                return Evaluation(logits.float().cpu(), data.labels.cpu())
            except torch.OutOfMemoryError:
                if batch_size == 1:
                    raise
            batch_size = (batch_size + 1) // 2
    finally:
        model.train(was_training)
