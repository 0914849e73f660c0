"""The progress of a training run: a bar, a line an epoch, and a forecast of its length."""

import time

import torch

from runtime.cli.console import Bar, note
from zoo.models import ARCHITECTURES
from zoo.recipes import RECIPES, Recipe
from zoo.training.metrics import RunningMetrics
from zoo.training.trainer import EpochMetrics

SECONDS_BETWEEN_READINGS = 0.2  # reading the loss waits for the device
FORECAST_SECONDS = 5  # of steps that a forecast is made from, after the first step, which is slower


class TrainingBar(Bar):
    """A `zoo.runs.run.Listener` with a bar (loss, accuracy, images/s, time left) and a printed line an epoch.

    Where stderr is no terminal, there is no bar. On a CPU, where a run may take days, a forecast of its length is
    printed after the first steps, if the recipe is given.
    """

    def __init__(self, model: str, recipe: Recipe | None = None, device: torch.device | None = None) -> None:
        super().__init__(model, total=None)
        self._model = model
        self._recipe = recipe if device is not None and device.type == "cpu" else None
        self._timed_from: float | None = None
        self._seen = 0
        self._read_at = 0.0

    def started(self, images: int, epochs: int, epochs_done: int) -> None:
        self._epochs, self._epoch, self._images, self._epochs_done = epochs, epochs_done + 1, images, epochs_done
        self._timed_images, self._timed_from = 0, None
        self._forecast_due = self._recipe is not None
        if epochs_done:
            note(f"going on after epoch {epochs_done} of {epochs}")
        self.update(total=images * epochs, completed=images * epochs_done)

    def batch(self, images: int, running: RunningMetrics) -> None:
        now = time.monotonic()
        if self._forecast_due:
            self._time(images, now)
        self._seen += images
        if not self.shown or now - self._read_at < SECONDS_BETWEEN_READINGS:
            return
        rate = self._seen / (now - self._read_at)
        self.advance(self._seen)
        self.update(
            description=f"{self._model} epoch {self._epoch}/{self._epochs}",
            text=f"loss {running.loss:.4f} accuracy {running.accuracy:.4f} {rate:,.0f} images/s",
        )
        self._seen, self._read_at = 0, now

    def _time(self, images: int, now: float) -> None:
        """Time the steps after the first one, in which oneDNN chooses its kernels; then print a forecast."""
        if self._timed_from is None:
            self._timed_from = now
            return
        self._timed_images += images
        if (seconds := now - self._timed_from) >= FORECAST_SECONDS:
            assert self._recipe is not None
            note(forecast(self._model, self._recipe, self._images, self._epochs_done, self._timed_images / seconds))
            self._forecast_due = False

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
        note(sentence)


def forecast(model: str, recipe: Recipe, images: int, epochs_done: int, images_per_second: float) -> str:
    """Return a sentence on the length of a run on a CPU, with that of the recipe `cpu` where this is shorter.

    `images_per_second` are those of the first epoch after `epochs_done`.
    """
    own = ARCHITECTURES[model].input_size
    pass_seconds = images / images_per_second / (((recipe.side_at(epochs_done) or own) / own) ** 2)
    seconds = pass_seconds * passes(recipe, own, epochs_done)
    run = f"the other {recipe.epochs - epochs_done} epochs take" if epochs_done else "this run takes"
    sentence = f"{run} about {duration(seconds)} on this CPU"
    shorter = RECIPES["cpu"].get(model)
    if shorter is None or epochs_done or pass_seconds * passes(shorter, own) >= seconds:
        return sentence
    return f"{sentence}; --recipe cpu, which is made for CPUs, about {duration(pass_seconds * passes(shorter, own))}"


def passes(recipe: Recipe, own: int, begin: int = 0) -> float:
    """Return the cost of a recipe's epochs from `begin` on, in epochs of images of the network's own side.

    The cost of an image is taken as proportional to its pixels.
    """
    return sum(((recipe.side_at(epoch) or own) / own) ** 2 for epoch in range(begin, recipe.epochs))


def duration(seconds: float) -> str:
    """Return a time to the minute, such as `18 h 20 min` or `3 min`."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
