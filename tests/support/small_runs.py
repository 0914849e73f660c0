"""Short training runs: 1,000 images, four epochs, and a listener that stops them."""

import functools
from pathlib import Path

import torch

from zoo.data.dataset import LabelledImages
from zoo.data.dataset import load_split as load_all
from zoo.recipes import Recipe
from zoo.runs import checkpoint, run
from zoo.runs.checkpoint import checkpoint_in
from zoo.runs.settings import Settings
from zoo.training.metrics import RunningMetrics

CPU = torch.device("cpu")
# With everything that has a state: Adam's moments, the average of weights, augmentation, the schedule.
RECIPE = Recipe(
    name="best", epochs=4, batch_size=128, lr=3e-3, optimizer="adamw", schedule="cosine", flip=True, shift=1, ema=0.9
)


load_once = functools.cache(load_all)


def small_split(split: str, device: torch.device | None = None) -> LabelledImages:
    """The first 1,000 images of a split, with which a run takes a second."""
    small = load_once(split)[slice(0, 1000)]
    return small.to(device) if device else small


class Stop(Exception):
    pass


class StopAfter(run.Listener):
    """A listener that raises `Stop` in a batch, counted from 1."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def batch(self, images: int, meter: RunningMetrics) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stop


def train(
    folder: Path, recipe: Recipe = RECIPE, *, seed: int = 0, resume: bool = False, **extra: object
) -> run.RunResult:
    settings = Settings(recipe, seed)
    return run.train("lenet-modern", settings, device=CPU, folder=folder, resume=resume, **extra)  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, bytes]:
    found = checkpoint.load(checkpoint_in(folder)).weights
    return {name: tensor.numpy().tobytes() for name, tensor in found.items()}
