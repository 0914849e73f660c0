"""Load a network with the weights of a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

from export.description import CHECKPOINT_FILE, Description
from runtime.datasets import fashion_mnist
from runtime.errors import UsageError
from runtime.model.registry import folders
from runtime.storage import known_home
from zoo.models import canonical_name, create_model
from zoo.models.preprocess import ImageClassifier
from zoo.runs import checkpoint, run
from zoo.runs.checkpoint import Checkpoint, CheckpointMissing


@dataclass(frozen=True)
class Trained:
    """A network with trained weights, and the checkpoint that they came from.

    `origin` says which kind of checkpoint it is: `given`, `your run`, `your export` or `published`.
    """

    name: str
    network: ImageClassifier
    checkpoint: Checkpoint
    origin: str = "given"

    @property
    def source(self) -> str:
        """A sentence that names the checkpoint."""
        header = self.checkpoint.header
        epochs = "" if self.checkpoint.finished else f", epoch {header['epoch']} of {header['recipe']['epochs']}"
        rounded = f", rounded to {self.checkpoint.rounded_to}" if self.checkpoint.rounded_to else ""
        return f"checkpoint of {self.name}: {self.checkpoint.path} ({self.origin}{epochs}{rounded})"


def load_trained(model: str, path: Path | None = None) -> Trained:
    """Load the weights of a model.

    Args:
        model: a name of `list_models()`.
        path: a checkpoint, or the folder of a run. By default that of the user's run in `$ZOO_HOME/runs`, else that of
            the user's export, else the published one. A rounded checkpoint is replaced by the one it was rounded from,
            if that exists.

    Raises:
        UsageError: no such model; or no path was given and there are several runs, or the path is a folder of several.
        CheckpointMissing: no path was given, and there is none.
        CheckpointError: the one there is damaged, foreign or another model's.
    """
    name = canonical_name(model)
    found, origin = _found(name) if path is None else (checkpoint.load(_in_folder(name, path), model=name), "given")
    network = create_model(name)
    found.load_into(network)
    return Trained(name, network.eval(), found, origin)


def runs_since(exported: Checkpoint) -> list[Path]:
    """Return the user's runs of the model of an export that are later than the export and have other weights."""
    made_from = exported.rounded_from or exported.sha256()
    since = exported.path.stat().st_mtime_ns
    runs = checkpoint.checkpoints_in(run.default_folder(exported.model))
    return [path for path in runs if path.stat().st_mtime_ns > since and checkpoint.sha256_of(path) != made_from]


def describe(trained: Trained) -> Description:
    """Return the description of a network, from its checkpoint's header."""
    header = trained.checkpoint.header
    return Description(
        name=trained.name,
        labels=fashion_mnist.LABELS,
        license="MIT",
        dataset="Fashion-MNIST",
        recipe=header["recipe"],
        seed=header["seed"],
        epochs=header["epoch"],
        trained_on=header.get("trained_on"),
        checkpoint={"file": CHECKPOINT_FILE, "sha256": trained.checkpoint.sha256()},
    )


def _in_folder(name: str, path: Path) -> Path:
    """Return a path itself, or the only checkpoint in the folder of a run."""
    if not path.is_dir():
        return path
    return _only(name, checkpoint.checkpoints_in(path)) or checkpoint.checkpoint_in(path)


def _only(name: str, paths: list[Path]) -> Path | None:
    """Return the checkpoint in a list of one, None for an empty list; raise UsageError where the user must choose."""
    if len(paths) > 1:
        listed = ", ".join(str(path) for path in paths)
        raise UsageError(f"there are {len(paths)} trained checkpoints of {name}: name one with --checkpoint: {listed}")
    return paths[0] if paths else None


def _found(name: str) -> tuple[Checkpoint, str]:
    own = _only(name, checkpoint.checkpoints_in(run.default_folder(name))) if known_home() else None
    candidates = [(own, "your run")] if own else []
    candidates += [
        (folder / name / CHECKPOINT_FILE, "your export" if origin == "user" else "published")
        for origin, folder in folders()
    ]
    there = [(path, origin) for path, origin in candidates if path.exists()]
    if not there:
        raise CheckpointMissing(f"{name} has not been trained on this machine: run `zoo train {name}`")
    (path, kind), *others = there
    first = checkpoint.load(path, model=name)
    if first.rounded_from is None:
        return first, kind
    for path, origin in others:
        if checkpoint.sha256_of(path) == first.rounded_from:
            return checkpoint.load(path, model=name), origin
    return first, kind
