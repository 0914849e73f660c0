"""A training run on disk: train, save after every epoch, resume.

$ZOO_HOME/runs/<model>/
  checkpoint.safetensors   replaced after every epoch; holds what `--resume` needs until the run is finished
  metrics.jsonl            one JSON object an epoch
  curves.png               loss and accuracy
  confusion.png            confusion matrix of the finished network on the test (or validation) images
  mistakes.png             its most confident mistakes
  reliability.png          its accuracy by confidence
"""

import contextlib
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch

from runtime.errors import UsageError
from runtime.storage import home
from zoo.data.dataset import load_split
from zoo.distributed import ALONE, World
from zoo.models import canonical_name, create_model
from zoo.recipes import Recipe
from zoo.runs import checkpoint
from zoo.runs.checkpoint import Checkpoint, CheckpointError
from zoo.runs.folder import CONFUSION, CURVES, HISTORY, MISTAKES, RELIABILITY, RunFolder
from zoo.runs.settings import Settings
from zoo.training.device import configure_backends, describe
from zoo.training.evaluation import evaluate
from zoo.training.metrics import RunningMetrics
from zoo.training.trainer import EpochMetrics, Trainer

SECONDS_BETWEEN_DRAWINGS = 30  # a picture takes as long as a small network's epoch


class Listener(Protocol):
    """Callbacks of a run: for a progress bar, a test, a notebook."""

    def started(self, images: int, epochs: int, epochs_done: int) -> None: ...
    def batch(self, images: int, running: RunningMetrics) -> None: ...
    def epoch(self, metrics: EpochMetrics) -> None: ...
    def notice(self, sentence: str) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run. Accuracies are fractions; `seconds` is training time, summed over resumptions."""

    model: str
    recipe: Recipe
    seed: int
    test_accuracy: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float
    precision: str
    checkpoint: Path

    @property
    def accuracy(self) -> tuple[float, str]:
        """The accuracy, and on which images: `test`, or `validation` where these were held out."""
        if self.test_accuracy is not None:
            return self.test_accuracy, "test"
        assert self.val_accuracy is not None
        return self.val_accuracy, "validation"

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
            "precision": self.precision,
            "checkpoint": str(self.checkpoint),
        }


def default_folder(model: str) -> Path:
    return home() / "runs" / model


def train(
    model: str,
    settings: Settings,
    *,
    device: torch.device,
    resume: bool = False,
    folder: Path | None = None,
    listener: Listener | None = None,
    world: World = ALONE,
) -> RunResult:
    """Train a model of the zoo, saving after every epoch, and measure it once at the end.

    A run is a function of (model, settings, device, number of processes): killed at any moment and resumed, it ends
    with the weights of a run that was never stopped.

    Args:
        resume: continue the run in the folder, or start one if there is none. Of a finished run, missing files are
            written and the result is returned.
        folder: where to save; by default `$ZOO_HOME/runs/<model>`. An older run there is moved to a sub-folder.
        listener: called on progress; `epoch` in the main process alone.
        world: the processes that train together; each calls this function, and the main one writes.

    Raises:
        UsageError: unknown model, a batch larger than the data, or the run to be resumed has other settings.
        CheckpointError: the run to be resumed is damaged.
        DatasetError: the data is missing or not the clean release.
        RunFolderBusy: another process is training into the folder.
        TrainingDiverged: the loss is no longer a number.
        OutOfMemory: the device does not hold what training needs.
        ProcessLost: see `zoo.distributed.process_group`.
        OSError: a file cannot be written; the last checkpoint is whole.
    """
    model = canonical_name(model)
    place = RunFolder(folder or default_folder(model))
    recipe = settings.recipe
    configure_backends(device)
    with place.locked() if world.is_main else contextlib.nullcontext():
        previous = place.previous(model, settings) if resume and world.is_main else None
        previous = world.from_main(previous, device)  # machines need not share a file system
        if previous is not None and previous.finished:
            if world.is_main:
                complete(place, previous, device)
            return _result(previous.header, place)
        data = load_split("fit" if settings.val_split else "train", device)
        if recipe.batch_size > len(data):
            raise UsageError(f"a batch of {recipe.batch_size} is larger than the {len(data)} training images")
        if recipe.batch_size < world.size:
            raise UsageError(f"a batch of {recipe.batch_size} cannot be shared by {world.size} processes")
        validation = load_split("validation", device) if settings.val_split else None
        torch.manual_seed(settings.seed)
        trainer = Trainer(
            create_model(model, normalize=recipe.normalize),
            recipe,
            data,
            settings.seed,
            validation,
            precision=settings.precision,
            micro_batch=settings.micro_batch,
            compile=settings.compile,
            world=world,
        )
        history: list[dict[str, Any]] = []
        if previous is not None:
            history = restore(trainer, previous)
        elif world.is_main:  # only now is it certain that the new run begins
            place.archive()
        if listener is not None:
            listener.started(len(data), recipe.epochs, trainer.epoch)
        header: dict[str, Any] = {}
        drawn_at = time.monotonic()
        while trainer.epoch < recipe.epochs:
            metrics = trainer.run_epoch(listener.batch if listener else None)
            history.append(asdict(metrics))
            finished = trainer.epoch == recipe.epochs
            header = {"model": model} | settings.as_dict() | {"epoch": trainer.epoch, "history": history}
            header |= {"val_accuracy": metrics.val_accuracy, "test_accuracy": None}
            header["trained_on"] = _trained_on(device, world, history)
            if finished:
                # The only use of the test images.
                measured_on = load_split("test", device) if validation is None else validation
                evaluation = evaluate(trainer.trained, measured_on)
                if validation is None:
                    header["test_accuracy"] = evaluation.accuracy
            if not world.is_main:
                continue
            state = None if finished else trainer.state()
            checkpoint.save(place.checkpoint, header, trainer.trained.state_dict(), state)
            place.write_history(history)
            if finished or time.monotonic() - drawn_at > SECONDS_BETWEEN_DRAWINGS:
                place.draw_curves(history)
                drawn_at = time.monotonic()
            if finished:
                place.draw_answers(evaluation, measured_on)
            if listener is not None:
                listener.epoch(metrics)
        return _result(header, place)


def complete(place: RunFolder, finished: Checkpoint, device: torch.device) -> None:
    """Write the files of a finished run that are missing or older than its checkpoint, as after a kill."""
    history = finished.header["history"]
    if place.is_behind(HISTORY):
        place.write_history(history)
    if place.is_behind(CURVES):
        place.draw_curves(history)
    if any(map(place.is_behind, (CONFUSION, MISTAKES, RELIABILITY))):
        settings = Settings.from_dict(finished.header)
        network = create_model(finished.model, normalize=settings.recipe.normalize)
        finished.load_into(network)
        measured_on = load_split("validation" if settings.val_split else "test", device)
        place.draw_answers(evaluate(network.to(device), measured_on), measured_on)


def restore(trainer: Trainer, previous: Checkpoint) -> list[dict[str, Any]]:
    """Load the state of an unfinished run into a trainer, and return the run's history.

    Raises:
        CheckpointError: a tensor or an epoch of the history is missing, or is not of this network.
    """
    try:
        trainer.load_state(previous.header["epoch"], previous.weights, previous.training)
        history: list[dict[str, Any]] = previous.header["history"]
        if [row["epoch"] for row in history] != [*range(1, trainer.epoch + 1)]:
            raise ValueError("its history is not that of its epochs")
    except torch.OutOfMemoryError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{previous.path} cannot be gone on with ({reason}): start over without --resume"
        ) from error
    return history


def _trained_on(device: torch.device, world: World, history: list[dict[str, Any]]) -> dict[str, Any]:
    found = {
        "device": describe(device),
        "torch": torch.__version__,
        "seconds": round(sum(row["seconds"] for row in history), 3),
        "date": datetime.now(UTC).date().isoformat(),
    }
    return found | ({"processes": world.size} if world.size > 1 else {})


def _result(header: dict[str, Any], place: RunFolder) -> RunResult:
    images = sum(row["seconds"] * row["images_per_second"] for row in header["history"])
    seconds = sum(row["seconds"] for row in header["history"])
    return RunResult(
        model=header["model"],
        recipe=Recipe.from_dict(header["recipe"]),
        seed=header["seed"],
        test_accuracy=header["test_accuracy"],
        val_accuracy=header["val_accuracy"],
        seconds=seconds,
        images_per_second=images / seconds,
        precision=header.get("precision", "fp32"),
        checkpoint=place.checkpoint,
    )
