"""A training run on disk: its folder, its lock, and how it stops and goes on.

$ZOO_HOME/runs/<model>/
  checkpoint.safetensors   replaced after every epoch; holds what `--resume` needs until the run is finished
  metrics.jsonl            one JSON object an epoch
  curves.png               loss and accuracy
"""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import filelock
import torch

from runtime.atomic import write_bytes
from runtime.errors import FashionZooError, UsageError
from runtime.home import home
from zoo import checkpoint
from zoo.checkpoint import Checkpoint
from zoo.data import load_split
from zoo.device import describe
from zoo.evaluation import evaluate
from zoo.models import canonical_name, create_model
from zoo.recipes import Recipe, recipe_for
from zoo.training import EpochMetrics, Meter, Trainer

SECONDS_BETWEEN_DRAWINGS = 30  # a picture takes as long as a small network's epoch


class RunFolderBusy(FashionZooError):
    """Another process is training into the same folder."""


class Listener(Protocol):
    """Who wants to watch a run: a progress bar, a test, a notebook."""

    def started(self, images: int, epochs: int, epochs_done: int) -> None: ...
    def batch(self, images: int, meter: Meter) -> None: ...
    def epoch(self, metrics: EpochMetrics) -> None: ...


@dataclass(frozen=True)
class Settings:
    """What a run is a function of, besides the model and the device.

    Attributes:
        recipe: how to train.
        seed: decides the first weights, the order and the augmentation.
        val_split: train on the first 50,000 training images and measure on the other 10,000, not on the test images.
    """

    recipe: Recipe
    seed: int = 0
    val_split: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"the seed must be from 0 to 2**32 - 1, not {self.seed}")

    def as_dict(self) -> dict[str, Any]:
        return {"recipe": self.recipe.as_dict(), "seed": self.seed, "val_split": self.val_split}


def settle(
    model: str,
    resumed: Path | None,
    recipe: str | None,
    changes: dict[str, Any],
    seed: int | None,
    val_split: bool,
) -> Settings:
    """Return the settings that a command line asks for; what it leaves open is the recipe's, or the resumed run's.

    Raises:
        UsageError: no such recipe, a value out of range, or something else than the run in `resumed` was started with.
        CheckpointError: the run in `resumed` is damaged.
    """
    path = checkpoint_in(resumed) if resumed else None
    if path is None or not path.exists():
        return Settings(recipe_for(model, recipe or "best").override(**changes), seed or 0, val_split)
    started = _settings_of(checkpoint.load(path, model=model))
    asked = {"recipe": recipe, "seed": seed, "val_split": val_split or None} | changes
    before = started.as_dict() | started.recipe.as_dict() | {"recipe": started.recipe.name}
    for name, wanted in asked.items():
        if wanted is not None and wanted != before[name]:
            raise UsageError(
                f"the run in {resumed} was started with {name.replace('_', '-')} {before[name]}, not {wanted}: "
                "resume it with its own settings, or start over without --resume"
            )
    return started


@dataclass(frozen=True)
class RunResult:
    """What a finished run amounts to; accuracies are fractions, `seconds` is training time over all its sittings."""

    model: str
    recipe: Recipe
    seed: int
    test_accuracy: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float
    checkpoint: Path

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "recipe": self.recipe.name,
            "epochs": self.recipe.epochs,
            "seed": self.seed,
            "test_accuracy": self.test_accuracy,
            "val_accuracy": self.val_accuracy,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 1),
            "checkpoint": str(self.checkpoint),
        }


def default_folder(model: str) -> Path:
    return home() / "runs" / model


def checkpoint_in(folder: Path) -> Path:
    return folder / "checkpoint.safetensors"


def train(
    model: str,
    settings: Settings,
    *,
    device: torch.device,
    resume: bool = False,
    folder: Path | None = None,
    listener: Listener | None = None,
) -> RunResult:
    """Train a model of the zoo, saving after every epoch, and measure it once at the end.

    A run is a function of (model, settings, device): killed at any moment and resumed, it ends with the weights
    of a run that was never stopped.

    Args:
        model: a name of `list_models()`.
        settings: recipe, seed and split.
        device: where to train.
        resume: go on where the folder's run stopped; a finished run is only reported, an absent one is started.
        folder: where to save; by default `$ZOO_HOME/runs/<model>`. An older run there is set aside, not lost.
        listener: told of progress.

    Raises:
        UsageError: unknown model, a batch larger than the data, or a run of other settings to be resumed.
        CheckpointError: the run to be resumed is damaged.
        DatasetError: the data is missing or not the clean release.
        RunFolderBusy: another process is training into the folder.
        TrainingDiverged: the loss is no longer a number.
        OSError: nothing can be written; what had been saved is whole.
    """
    model = canonical_name(model)
    folder = folder or default_folder(model)
    recipe, seed, val_split = settings.recipe, settings.seed, settings.val_split
    with _locked(folder):
        previous = _previous(folder, model, settings) if resume else None
        if previous is not None and previous.finished:
            return _result(previous)
        data = load_split("fit" if val_split else "train", device)
        if recipe.batch_size > len(data):
            raise UsageError(f"a batch of {recipe.batch_size} is larger than the {len(data)} training images")
        if previous is None:
            _set_aside(folder)
        torch.manual_seed(seed)
        network = create_model(model, normalize=recipe.normalize)
        trainer = Trainer(network, recipe, data, seed, load_split("validation", device) if val_split else None)
        history: list[dict[str, Any]] = []
        if previous is not None:
            trainer.load_state(previous.header["epoch"], previous.weights, previous.training)
            history = previous.header["history"]
        if listener is not None:
            listener.started(len(data), recipe.epochs, trainer.epoch)
        drawn_at = time.monotonic()
        while trainer.epoch < recipe.epochs:
            metrics = trainer.run_epoch(listener.batch if listener else None)
            history.append(metrics.as_dict())
            finished = trainer.epoch == recipe.epochs
            header = {"model": model} | settings.as_dict() | {"epoch": trainer.epoch, "history": history}
            header |= {"val_accuracy": metrics.val_accuracy, "test_accuracy": None}
            header["trained_on"] = {
                "device": describe(device),
                "torch": torch.__version__,
                "seconds": round(sum(row["seconds"] for row in history), 3),
                "date": datetime.now(UTC).date().isoformat(),
            }
            if finished and not val_split:  # the only time the test images are touched
                header["test_accuracy"] = evaluate(trainer.trained, load_split("test", device)).accuracy
            checkpoint.save(
                checkpoint_in(folder), header, trainer.trained.state_dict(), None if finished else trainer.state()
            )
            _write_history(folder, history)
            if finished or time.monotonic() - drawn_at > SECONDS_BETWEEN_DRAWINGS:
                _draw(folder, history)
                drawn_at = time.monotonic()
            if listener is not None:
                listener.epoch(metrics)
        return _result(checkpoint.load(checkpoint_in(folder), model=model))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RunFolderBusy(
            f"another process is training into {folder}; give this one its own folder with -o"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _previous(folder: Path, model: str, settings: Settings) -> Checkpoint | None:
    """Return the run in `folder`, if there is one; it must have been started with the same settings."""
    path = checkpoint_in(folder)
    if not path.exists():
        return None
    found = checkpoint.load(path, model=model, with_training=True)
    if _settings_of(found) != settings:
        raise UsageError(f"the run in {folder} was started with other settings; resume it with its own, or start over")
    return found


def _settings_of(found: Checkpoint) -> Settings:
    header = found.header
    return Settings(Recipe.from_dict(header["recipe"]), header["seed"], header["val_split"])


def _set_aside(folder: Path) -> None:
    """Rename the checkpoint and history of an older run, so that starting over loses nothing."""
    path = checkpoint_in(folder)
    if not path.exists():
        return
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(path.stat().st_mtime))
    aside = folder / f"before-{stamp}"
    aside.mkdir(exist_ok=True)
    for name in (path.name, "metrics.jsonl", "curves.png"):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).replace(aside / name)


def _write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in history)
    write_bytes(folder / "metrics.jsonl", lines.encode())


def _draw(folder: Path, history: list[dict[str, Any]]) -> None:
    from zoo.curves import draw_curves  # matplotlib takes half a second: not before there is something to draw

    write_bytes(folder / "curves.png", draw_curves(history))


def _result(done: Checkpoint) -> RunResult:
    header = done.header
    images = sum(row["seconds"] * row["images_per_second"] for row in header["history"])
    seconds = sum(row["seconds"] for row in header["history"])
    return RunResult(
        model=done.model,
        recipe=Recipe.from_dict(header["recipe"]),
        seed=header["seed"],
        test_accuracy=header["test_accuracy"],
        val_accuracy=header["val_accuracy"],
        seconds=seconds,
        images_per_second=images / seconds,
        checkpoint=done.path,
    )
