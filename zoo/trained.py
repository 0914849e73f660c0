"""A network with the weights of a checkpoint in it."""

from dataclasses import dataclass
from pathlib import Path

from export.artifact import CHECKPOINT_FILE
from export.description import Description
from runtime import fashion_mnist
from runtime.store import folders
from zoo import checkpoint, run
from zoo.checkpoint import Checkpoint, CheckpointMissing
from zoo.models import canonical_name, create_model
from zoo.preprocess import ImageClassifier


@dataclass(frozen=True)
class Trained:
    """A network, ready to be measured or exported, and where its weights came from."""

    name: str
    network: ImageClassifier
    checkpoint: Checkpoint


def load_trained(model: str, path: Path | None = None) -> Trained:
    """Load the weights of a model.

    Args:
        model: a name of `list_models()`.
        path: a checkpoint; by default that of the user's own run, else the one published beside the ONNX file. Of a
            half-size export that is a rounded copy: then the one that it was rounded from, where it is still there.

    Raises:
        UsageError: no such model.
        CheckpointMissing: no path was given, and there is none.
        CheckpointError: the one there is damaged, foreign or another model's.
    """
    name = canonical_name(model)
    found = checkpoint.load(path, model=name) if path is not None else _found(name)
    network = create_model(name)
    found.load_into(network)
    return Trained(name, network.eval(), found)


def describe(trained: Trained) -> Description:
    """Return what a checkpoint's header tells of its network."""
    header = trained.checkpoint.header
    return Description(
        name=trained.name,
        labels=fashion_mnist.LABELS,
        recipe=header["recipe"],
        seed=header["seed"],
        epochs=header["epoch"],
        trained_on=header.get("trained_on"),
        checkpoint={"file": CHECKPOINT_FILE, "sha256": trained.checkpoint.sha256()},
    )


def _found(name: str) -> Checkpoint:
    candidates = [checkpoint.checkpoint_in(run.default_folder(name))]
    candidates += [folder / name / CHECKPOINT_FILE for _, folder in folders()]
    there = [candidate for candidate in candidates if candidate.exists()]
    if not there:
        raise CheckpointMissing(f"{name} has not been trained on this machine: run `zoo train {name}`")
    first = checkpoint.load(there[0], model=name)
    if first.rounded_from is None:
        return first
    origins = [path for path in there[1:] if checkpoint.sha256_of(path) == first.rounded_from]
    return checkpoint.load(origins[0], model=name) if origins else first
