"""Train one recipe with several seeds: mean and standard deviation."""

import dataclasses
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.distributed import ALONE, World
from zoo.runs.run import Listener, RunResult, train
from zoo.runs.settings import Settings


@dataclass(frozen=True)
class SeedsResult:
    """The results of several seeds; accuracies are of the test images, or of the validation images if held out."""

    results: tuple[RunResult, ...]

    @property
    def accuracies(self) -> list[float]:
        return [result.accuracy[0] for result in self.results]

    @property
    def mean(self) -> float:
        return statistics.mean(self.accuracies)

    @property
    def standard_deviation(self) -> float | None:
        """The sample standard deviation; None for a single seed."""
        return statistics.stdev(self.accuracies) if len(self.results) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        first = self.results[0]
        return {
            "model": first.model,
            "recipe": first.recipe.name,
            "epochs": first.recipe.epochs,
            "measured_on": first.accuracy[1],
            "seeds": [result.seed for result in self.results],
            "accuracy": self.accuracies,
            "mean": round(self.mean, 6),
            "standard_deviation": None if self.standard_deviation is None else round(self.standard_deviation, 6),
            "runs": [result.as_dict() for result in self.results],
        }


def seed_folder(folder: Path, seed: int) -> Path:
    """Return the sub-folder of one seed's run."""
    return folder / f"seed-{seed}"


def train_seeds(
    model: str,
    settings: Settings,
    count: int,
    folder: Path,
    *,
    device: torch.device,
    resume: bool = False,
    folder_of: Callable[[Path, int], Path] = seed_folder,
    listener: Listener | None = None,
    world: World = ALONE,
) -> SeedsResult:
    """Train a model from `count` consecutive seeds, the first being that of `settings`, one after the other.

    With `resume`, finished runs are not trained again, and an unfinished one is continued. See `zoo.runs.run.train`.

    Args:
        folder_of: from `folder` and a seed to the folder of the seed's run.
    """
    # All settings first: a seed out of range is refused before anything is trained.
    runs = [dataclasses.replace(settings, seed=settings.seed + number) for number in range(count)]
    results = []
    for each in runs:
        if listener is not None:
            listener.notice(f"seed {each.seed}")
        place = folder_of(folder, each.seed)
        results.append(train(model, each, device=device, resume=resume, folder=place, listener=listener, world=world))
    return SeedsResult(tuple(results))
