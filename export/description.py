"""The description of a network beyond its weights: labels, accuracy, recipe, licence."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from export.precision import FULL, Precision
from runtime.errors import UsageError
from runtime.model.confidence import Confidence
from runtime.model.metadata import is_folder_name, is_name

CHECKPOINT_FILE = "checkpoint.safetensors"  # the name of the weights beside the ONNX file
_VERSIONED = ("torch", "onnx", "onnxscript")


@dataclass(frozen=True, kw_only=True)
class Description:
    """What the file will say of itself, in its metadata, its model card and the index.

    Attributes:
        name: the model's name; also its folder's.
        labels: the K class names, in the order of the logits.
        license: an SPDX expression for the weights; None if it is not known.
        dataset: what it was trained on, as the card says; None if it is not known.
        recipe: how the network was trained, as JSON; None if it is not known.
        seed, epochs: of that training.
        trained_on: device, torch and seconds of that training.
        checkpoint: `{"file", "sha256"}` of the weights it came from.
        precision: what the file computes in and keeps its weights in.
        confidence: the temperature of its probabilities and the score of its pictures, see
            `export.fit_confidence`; None for softmax(logits) and no score.
    """

    name: str
    labels: Sequence[str]
    license: str | None = None
    dataset: str | None = None
    recipe: dict[str, Any] | None = None
    seed: int | None = None
    epochs: int | None = None
    trained_on: dict[str, Any] | None = None
    checkpoint: dict[str, str] | None = None
    precision: Precision = FULL
    confidence: Confidence | None = None

    def __post_init__(self) -> None:
        if not is_folder_name(self.name):
            raise UsageError(f"a model's name must do as a folder's name, which {self.name!r} does not")
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels) or not all(map(is_name, self.labels)):
            raise UsageError(f"labels must be two or more different printable names, not {list(self.labels)!r}")

    def metadata(self, accuracy: dict[str, Any] | None) -> dict[str, Any]:
        """Return the fields of `metadata_props`, to be encoded by `runtime.model.metadata`."""
        return {
            "model": self.name,
            "labels": list(self.labels),
            "accuracy": accuracy,
            "recipe": self.recipe,
            "seed": self.seed,
            "epochs": self.epochs,
            "checkpoint": self.checkpoint,
            "versions": library_versions(),
            "license": self.license,
            "confidence": self.confidence and self.confidence.as_dict(),
        } | self.precision.as_dict()


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that shape the file's bytes."""
    return {name: importlib.metadata.version(name) for name in _VERSIONED}
