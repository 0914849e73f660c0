"""A stored file, whatever its state, against the network that it should be: what `zoo verify` calls."""

import dataclasses
import hashlib
from pathlib import Path

from export.artifact import CHECKPOINT_FILE, expectations
from export.report import Check, Report
from export.subject import ONNXRUNTIME
from export.verifier import verify
from runtime import fashion_mnist
from runtime.atomic import require_writable, write_bytes
from runtime.errors import ModelInvalid, ModelNotFound
from runtime.store import MAX_MODEL_BYTES, StoredModel, find_model, folders, read_index, read_rebuildable
from runtime.strict_json import to_json
from zoo.checkpoint import load as load_checkpoint
from zoo.models import canonical_name
from zoo.trained import describe, load_trained


def verify_stored(
    model: str,
    onnx_file: Path | None = None,
    checkpoint: Path | None = None,
    *,
    images: int | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    engine: str = ONNXRUNTIME,
    output: Path | None = None,
) -> Report:
    """Verify a stored file against its weights, on the test images or the first `images` of them.

    Where the index has another checksum for the file, that is reported as a failed check before the others.

    Raises:
        ModelNotFound: no such file. ModelInvalid: it is too large. CheckpointError: no such weights.
        DeviceUnavailable: the device cannot be used. EngineMissing: the engine is not installed.
        OSError: the report cannot be written, which is found before the checks are run.
    """
    if output is not None:
        require_writable(output)
    name = canonical_name(model)
    stored = _exported(name) if onnx_file is None else StoredModel(name, onnx_file, "path", None)
    content = _content(stored.path)
    trained = load_trained(name, checkpoint or _checkpoint_beside(stored))
    pictures, labels = fashion_mnist.load("test")
    report = verify(
        trained.network,
        content,
        images=pictures[:images],
        labels=labels[:images],
        expected=expectations(describe(trained)),
        device=device,
        dtype=dtype,
        engine=engine,
    )
    if stored.entry is not None and (damage := _damage(content, stored.entry["sha256"])):
        report = dataclasses.replace(report, checks=(damage, *report.checks))
    if output is not None:
        write_bytes(output, (to_json(report.as_dict(), indent=2) + "\n").encode())
    return report


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


def _content(path: Path) -> bytes:
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
