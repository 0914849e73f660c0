"""The progress of a training run: one bar, one line an epoch, and a forecast of its end."""

import time
from typing import Self

import torch

from runtime.cli.console import Bar, note
from zoo.models import ARCHITECTURES
from zoo.recipes import RECIPES, Recipe
from zoo.training.metrics import RunningMetrics
from zoo.training.trainer import EpochMetrics

SECONDS_BETWEEN_READINGS = 0.2  # reading the loss waits for the device, so it must be seldom
FORECAST_SECONDS = 5  # what a forecast is made from, after a first step that is slower


class TrainingBar(Bar):
    """A `zoo.runs.run.Listener`: a bar with loss, accuracy, images/s and time left; where stderr is no terminal, the
    epochs' lines alone. On a CPU, where a run may take days, it says after the first steps how long it will.

    Args:
        model: a name of `list_models()`.
        recipe: what the run is trained by; without it, nothing is said of its length.
        device: where; on another than a CPU nothing is said of it either.
        shown: False in all processes but the main one.
    """

    def __init__(
        self,
        model: str,
        recipe: Recipe | None = None,
        device: torch.device | None = None,
        *,
        shown: bool = True,
    ) -> None:
        super().__init__(model, total=None)
        self._wanted = shown
        self._model = model
        self._recipe = recipe if shown and device is not None and device.type == "cpu" else None
        self._forecast: Forecast | None = None
        self._epochs = 0
        self._epoch = 0
        self._seen = 0
        self._read_at = 0.0

    def __enter__(self) -> Self:
        return super().__enter__() if self._wanted else self

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
        if self._wanted:
            note(sentence)


class Forecast:
    """How long a run takes, from its first steps.

    Args:
        model: a name of `list_models()`.
        recipe: what it is trained by.
        images: the training images.
        epochs_done: where the run goes on.
    """

    def __init__(self, model: str, recipe: Recipe, images: int, epochs_done: int) -> None:
        self._model = model
        self._recipe = recipe
        self._images = images
        self._done = epochs_done
        self._seen = 0
        self._began: float | None = None

    def step(self, images: int) -> str | None:
        """Count a step of so many images; return the sentence once enough was seen, else None."""
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
    """Return how many passes over images of the network's own side cost what a recipe's epochs from `begin` on cost: an
    image's cost goes with its pixels."""
    return sum(((recipe.side_at(epoch) or own) / own) ** 2 for epoch in range(begin, recipe.epochs))


def duration(seconds: float) -> str:
    """Return a time to the minute, as people say it: `18 h 20 min`, `3 min`."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
