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
    printed after the first steps.

    Args:
        model: a name of `list_models()`.
        recipe: what the run is trained by; None for no forecast.
        device: where it is trained.
    """

    def __init__(self, model: str, recipe: Recipe | None = None, device: torch.device | None = None) -> None:
        super().__init__(model, total=None)
        self._model = model
        self._recipe = recipe if device is not None and device.type == "cpu" else None
        self._forecast: Forecast | None = None
        self._epochs = 0
        self._epoch = 0
        self._seen = 0
        self._read_at = 0.0

    def started(self, images: int, epochs: int, epochs_done: int) -> None:
        self._epochs, self._epoch = epochs, epochs_done + 1
        if self._recipe is not None:
            self._forecast = Forecast(self._model, self._recipe, images, epochs_done)
        if epochs_done:
            note(f"going on after epoch {epochs_done} of {epochs}")
        self.update(total=images * epochs, completed=images * epochs_done)

    def batch(self, images: int, running: RunningMetrics) -> None:
        if self._forecast is not None and (sentence := self._forecast.step(images)) is not None:
            self._forecast = None
            note(sentence)
        self._seen += images
        now = time.monotonic()
        if not self.shown or now - self._read_at < SECONDS_BETWEEN_READINGS:
            return
        rate = self._seen / (now - self._read_at)
        self.advance(self._seen)
        self.update(
            description=f"{self._model} epoch {self._epoch}/{self._epochs}",
            text=f"loss {running.loss:.4f} accuracy {running.accuracy:.4f} {rate:,.0f} images/s",
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
        note(sentence)


class Forecast:
    """Estimates the length of a run from its first steps.

    Args:
        model: a name of `list_models()`.
        recipe: what it is trained by.
        images: number of training images.
        epochs_done: epochs of the run that were trained before.
    """

    def __init__(self, model: str, recipe: Recipe, images: int, epochs_done: int) -> None:
        self._model = model
        self._recipe = recipe
        self._images = images
        self._done = epochs_done
        self._seen = 0
        self._began: float | None = None

    def step(self, images: int) -> str | None:
        """Count a step of so many images. Return the forecast as a sentence once there were enough steps, else None."""
        now = time.monotonic()
        if self._began is None:  # the first step, in which oneDNN chooses its kernels
            self._began = now
            return None
        self._seen += images
        elapsed = now - self._began
        if elapsed < FORECAST_SECONDS:
            return None
        own = ARCHITECTURES[self._model].input_size
        share = ((self._recipe.side_at(self._done) or own) / own) ** 2
        pass_seconds = self._images * elapsed / self._seen / share
        seconds = pass_seconds * passes(self._recipe, own, self._done)
        run = f"the other {self._recipe.epochs - self._done} epochs take" if self._done else "this run takes"
        sentence = f"{run} about {duration(seconds)} on this CPU"
        shorter = RECIPES["cpu"].get(self._model)
        if shorter is None or self._done or pass_seconds * passes(shorter, own) >= seconds:
            return sentence
        return (
            f"{sentence}; --recipe cpu, which is made for CPUs, about {duration(pass_seconds * passes(shorter, own))}"
        )


def passes(recipe: Recipe, own: int, begin: int = 0) -> float:
    """Return the cost of a recipe's epochs from `begin` on, in epochs of images of the network's own side.

    The cost of an image is taken as proportional to its pixels.
    """
    return sum(((recipe.side_at(epoch) or own) / own) ** 2 for epoch in range(begin, recipe.epochs))


def duration(seconds: float) -> str:
    """Return a time to the minute, such as `18 h 20 min` or `3 min`."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
