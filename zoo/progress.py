"""A training run as its owner watches it: one bar, one line an epoch."""

import time
from typing import Self

from runtime.console import Bar, note
from zoo.meter import Meter
from zoo.training import EpochMetrics

SECONDS_BETWEEN_READINGS = 0.2  # reading the loss waits for the device, so it must be seldom


class TrainingBar(Bar):
    """A `zoo.run.Listener`: a bar with loss, accuracy, images/s and time left; where stderr is no terminal, the
    epochs' lines alone."""

    def __init__(self, model: str, *, shown: bool = True) -> None:
        super().__init__(model, total=None)
        self._wanted = shown
        self._model = model
        self._epochs = 0
        self._epoch = 0
        self._seen = 0
        self._read_at = 0.0

    def __enter__(self) -> Self:
        return super().__enter__() if self._wanted else self

    def started(self, images: int, epochs: int, epochs_done: int) -> None:
        self._epochs, self._epoch = epochs, epochs_done + 1
        if epochs_done:
            note(f"going on after epoch {epochs_done} of {epochs}")
        self.update(total=images * epochs, completed=images * epochs_done)

    def batch(self, images: int, meter: Meter) -> None:
        self._seen += images
        now = time.monotonic()
        if not self.shown or now - self._read_at < SECONDS_BETWEEN_READINGS:
            return
        rate = self._seen / (now - self._read_at)
        self.advance(self._seen)
        self.update(
            description=f"{self._model} epoch {self._epoch}/{self._epochs}",
            text=f"loss {meter.loss:.4f} accuracy {meter.accuracy:.4f} {rate:,.0f} images/s",
        )
        self._seen, self._read_at = 0, now

    def epoch(self, metrics: EpochMetrics) -> None:
        self.advance(self._seen)
        self._seen = 0
        self._epoch = metrics.epoch + 1
        validation = "" if metrics.val_accuracy is None else f"  validation {metrics.val_accuracy:.4f}"
        note(
            f"epoch {metrics.epoch:3d}/{self._epochs}  loss {metrics.train_loss:.4f}  accuracy "
            f"{metrics.train_accuracy:.4f}{validation}  {metrics.images_per_second:,.0f} images/s"
        )

    def notice(self, sentence: str) -> None:
        if self._wanted:
            note(sentence)
