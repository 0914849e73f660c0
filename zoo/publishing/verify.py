"""Verify a stored file against the network that it should be: what `zoo verify` calls."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.bundle.artifact import expectations
from export.description import CHECKPOINT_FILE
from export.verification.context import MAX_DROP, ONNXRUNTIME
from export.verification.report import Check, Report
from export.verification.runner import verify
from runtime.datasets import fashion_mnist
from runtime.errors import ModelInvalid, ModelNotFound
from runtime.model.registry import MAX_MODEL_BYTES, StoredModel, find_model, folders, read_index, read_rebuildable
from zoo.models import canonical_name
from zoo.runs.checkpoint import load as load_checkpoint
from zoo.runs.trained import Trained, describe, load_trained

CALIBRATION = 512  # pictures


@dataclass(frozen=True)
class Pair:
    """A stored file, its bytes whatever they are, and the network that it should be."""

    stored: StoredModel
    content: bytes
    trained: Trained

    @property
    def source(self) -> str:
        """Name the file and where it comes from."""
        origin = {"path": "given", "user": "your export"}.get(self.stored.origin, "published")
        return f"file of {self.trained.name}: {self.stored.path} ({origin})"


def find_pair(model: str, onnx_file: Path | None = None, checkpoint: Path | None = None) -> Pair:
    """Find a file and the weights to compare it with.

    Args:
        model: a name of `list_models()`.
        onnx_file: the file; by default the one that the name means.
        checkpoint: the weights, or the folder of a run; by default those beside the file, else those of `load_trained`.

    Raises:
        ModelNotFound: no such file. ModelInvalid: it is too large. CheckpointError: no such weights.
        UsageError: no such model, or several runs that the weights may be of.
    """
    name = canonical_name(model)
    stored = _exported(name) if onnx_file is None else dataclasses.replace(find_model(onnx_file), name=name)
    content = read_model_file(stored.path)
    if checkpoint is None and (beside := _checkpoint_beside(stored)):
        return Pair(stored, content, dataclasses.replace(load_trained(name, beside), origin="beside the file"))
    return Pair(stored, content, load_trained(name, checkpoint))


def verify_stored(
    pair: Pair,
    *,
    images: int | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    engine: str = ONNXRUNTIME,
    max_drop: float = MAX_DROP,
) -> Report:
    """Verify a stored file against its weights, on the test images or the first `images` of them.

    Where the index has another checksum for the file, that is reported as a failed check before the others.

    Raises:
        DeviceUnavailable: the device cannot be used. EngineMissing: the engine is not installed.
    """
    stored, trained = pair.stored, pair.trained
    pictures, labels = fashion_mnist.load("test")
    report = verify(
        trained.network,
        pair.content,
        images=pictures[:images],
        labels=labels[:images],
        expected=expectations(describe(trained)),
        device=device,
        dtype=dtype,
        engine=engine,
        # The file may be damaged, so it is not parsed: `int8` among its bytes is reason enough to load the images.
        calibration=calibration_images() if b"int8" in pair.content else None,
        max_drop=max_drop,
    )
    if stored.entry is not None and (damage := _damage(pair.content, stored.entry["sha256"])):
        report = dataclasses.replace(report, checks=(damage, *report.checks))
    return report


def calibration_images() -> npt.NDArray[np.uint8]:
    """Return the pictures that the zoo's int8 files are calibrated on: the first of the training split."""
    images, _ = fashion_mnist.load("train")
    return images[:CALIBRATION]


def _checkpoint_beside(stored: StoredModel) -> Path | None:
    """Return the checkpoint in the file's folder, unless it is of another model: such a file has strayed there."""
    beside = stored.path.parent / CHECKPOINT_FILE
    return beside if beside.exists() and load_checkpoint(beside).model == stored.name else None


def _exported(name: str) -> StoredModel:
    """Return the file that a network's name means; one that no index knows is still to be made."""
    if not any(name in read(folder) for _, folder in folders() for read in (read_index, read_rebuildable)):
        raise ModelNotFound(
            f"there is no export of {name} on this machine: make one with `zoo train {name}` and `zoo export {name}`"
        )
    return find_model(name)


def read_model_file(path: Path) -> bytes:
    """Return the bytes of a file, whatever they are: the checks judge them."""
    if not path.is_file():
        raise ModelNotFound(f"there is no model file at {path}")
    if (size := path.stat().st_size) > MAX_MODEL_BYTES:
        raise ModelInvalid(f"{path} holds {size:,} bytes; a model has at most {MAX_MODEL_BYTES:,}")
    return path.read_bytes()


def _damage(content: bytes, published: str) -> Check | None:
    """Return a failed check where the content is not what the index vouches for."""
    found = hashlib.sha256(content).hexdigest()
    if found == published:
        return None
    measures = {"expected": published, "found": found}
    return Check("checksum", False, f"the index says sha256 {published}, but the file's is {found}", measures, 0.0)
