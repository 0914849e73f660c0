"""Export a checkpoint to an artifact, and copy it into the repository: what `zoo export` and `publish` call."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.bundle.artifact import export_network, index_entry, write_artifact
from export.convert.exporter import default_opset
from export.description import CHECKPOINT_FILE
from export.precision import Precision
from export.verification.accuracy_change import AccuracyChange
from export.verification.context import MAX_DROP
from runtime.datasets import fashion_mnist
from runtime.errors import FashionZooError, ModelNotFound, UsageError
from runtime.evaluation.golden import FOLDER
from runtime.evaluation.parity import REPORT
from runtime.model.registry import MODEL_FILE, find_model, read_index, repository_weights, user_weights
from runtime.strict_json import json_bytes
from zoo.data.dataset import VALIDATION_IMAGES
from zoo.models import canonical_name
from zoo.publishing.confidence import fit
from zoo.publishing.verify import calibration_images, find_pair, verify_stored
from zoo.recipes import recipe_for
from zoo.runs.checkpoint import CheckpointError
from zoo.runs.settings import Settings
from zoo.runs.trained import Trained, describe, load_trained


class NotPublishable(FashionZooError):
    """There is nothing to publish, or nowhere to publish to."""


CHOOSING = 1_000  # validation images that decide which layers stay in float32
# What a repository that everybody clones may carry; the forges warn at 50 MB a file.
MAX_FILE, MAX_WEIGHTS = 50_000_000, 140_000_000


def export_trained(
    trained: Trained,
    weights: Path | None = None,
    *,
    dtype: str = "fp32",
    storage: str | None = None,
    opset: int | None = None,
    max_drop: float = MAX_DROP,
    purpose: str = "speed",
) -> tuple[dict[str, Any], Path]:
    """Export a trained network into a weights folder (by default the user's own); return its entry and its folder.

    The options are those of `export.export_network`; `storage`, by default as `dtype`, is that of the checkpoint too.

    Raises:
        VerificationFailed: a check failed; nothing was written.
        NotFaster: int8 is slower than float32 here, and not size was asked for; nothing was written.
        CheckpointError: the weights are of an unfinished run, or rounded themselves; int8 takes those that were rounded
            to float16.
        UsageError: there is no such dtype or storage, they do not go together, or a weight is beyond them;
            or the exporter does not write this opset.
    """
    if dtype != "fp32" and storage not in (None, dtype):
        kind = {"fp16": "float16"}.get(dtype, dtype)
        raise UsageError(f"a file that computes in {kind} stores {kind} too: leave out --storage {storage}")
    precision = Precision(dtype, storage or "fp32")
    if not trained.checkpoint.finished:
        header = trained.checkpoint.header
        raise CheckpointError(
            f"{trained.checkpoint.path} is from epoch {header['epoch']} of {header['recipe']['epochs']}: finish the "
            f"run with `zoo train {trained.name} --resume` before exporting it"
        )
    # What rounding costs could not be measured against them. int8 is coarser by far than the float16 of a published
    # checkpoint, its integers follow from what that holds, and its cost is stated against the same.
    if trained.checkpoint.rounded_to not in (None, "fp16" if precision.dtype == "int8" else None):
        raise CheckpointError(
            f"{trained.checkpoint.path} holds weights rounded from the checkpoint of sha256 "
            f"{trained.checkpoint.rounded_from}: give the trained ones with --checkpoint"
        )
    images, labels = fashion_mnist.load("test")
    weights = weights or user_weights()
    stored = precision.rounds and precision.dtype == "fp32"  # computing so rounds more than the checkpoint should
    export_network(
        trained.network,
        weights,
        replace(describe(trained), confidence=fit(trained)),
        images=images,
        labels=labels,
        checkpoint=trained.checkpoint.rounded(precision, trained.network) if stored else trained.checkpoint.path,
        dtype=precision.dtype,
        storage=precision.storage,
        opset=opset,
        calibration=calibration_images() if precision.dtype == "int8" else None,
        validation=_validation() if precision.dtype == "int8" else None,
        max_drop=max_drop,
        purpose=purpose,
    )
    return read_index(weights)[trained.name], weights / trained.name


def _validation() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return pictures and classes of the validation split, by which an export chooses."""
    images, labels = fashion_mnist.load("train")
    return images[-VALIDATION_IMAGES:][:CHOOSING], labels[-VALIDATION_IMAGES:][:CHOOSING]


def publish_exported(model: str) -> tuple[dict[str, Any], Path]:
    """Copy the user's export of a model into the repository's weights, after verifying the file on disk again.

    Of a model with a file too large for a repository, all but that file and its checkpoint are copied, and its entry
    says by which command they are made.

    Raises:
        NotPublishable: nothing was exported, this is no checkout of the repository, rounding cost accuracy, rounding
            would make the file small enough for a repository, or the repository has no room for it.
        ModelNotFound: the export has lost its file.
        VerificationFailed: a check failed; the repository is as it was.
    """
    name = canonical_name(model)
    weights, source = repository_weights(), user_weights()
    if weights is None:
        raise NotPublishable("zoo publish writes to the repository's weights/, and this is an installed package")
    exported = read_index(source).get(name)
    if exported is None:
        raise NotPublishable(f"there is no export of {name} in {source}: run `zoo export {name}` first")
    stored = find_model(name)
    if stored.origin != "user":
        raise ModelNotFound(f"the export of {name} in {source} has lost its file: run `zoo export {name}` again")
    folder = stored.path.parent
    rounding = exported.get("rounding")
    if rounding and AccuracyChange(**rounding).is_loss:
        raise NotPublishable(
            f"{name} loses accuracy as {Precision.of(exported)}: {AccuracyChange(**rounding)}, which chance does not "
            "explain; publish it as fp32"
        )
    precision = Precision.of(exported)
    too_large = _too_large(folder, precision)
    report = verify_stored(find_pair(name, stored.path, folder / CHECKPOINT_FILE))
    report.require()
    trained = load_trained(name, folder / CHECKPOINT_FILE)
    content = stored.read()
    files = {REPORT: json_bytes(report.as_dict())}
    # The checkpoint beside the file may be rounded itself; what that cost was measured against the trained one.
    entry = index_entry(trained.network, content, describe(trained), report) | {"rounding": rounding}
    entry["quantization"] = exported.get("quantization")  # how fast it was where it was exported
    if too_large:
        del entry["file"]
        usual = default_opset(precision.storage)
        entry["rebuild"] = rebuild_command(trained, precision, None if entry["opset"] == usual else entry["opset"])
    else:
        files |= {MODEL_FILE: content, CHECKPOINT_FILE: (folder / CHECKPOINT_FILE).read_bytes()}
    files |= {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / FOLDER).iterdir())}
    _require_room(weights, name, sum(map(len, files.values())), precision)
    write_artifact(weights, entry, files)
    return entry, weights / name


def rebuild_command(trained: Trained, precision: Precision, opset: int | None = None) -> str:
    """Return the command line that trains and exports this very model again, with every option that decides it.

    The header of its checkpoint says how it was trained; `opset` is None for the exporter's default.
    """
    header = trained.checkpoint.header
    recipe, stock = header["recipe"], {}
    with contextlib.suppress(UsageError):  # a recipe of another version
        stock = recipe_for(trained.name, recipe["name"]).as_dict()
    options = [f"--recipe {recipe['name']}", f"--seed {header['seed']}"]
    options += [
        f"--{field.replace('_', '-')} {recipe[field]}"
        for field in ("epochs", "lr", "batch_size")
        if field in recipe and recipe[field] != stock.get(field)
    ]
    # The defaults of these follow from the hardware, so they are always named.
    settings = Settings.from_dict(header)
    options += [f"--precision {settings.precision}", "--compile" if settings.compile else "--no-compile"]
    if settings.micro_batch is not None:
        options.append(f"--micro-batch {settings.micro_batch}")
    if header.get("val_split"):
        options.append("--val-split")
    processes = (header.get("trained_on") or {}).get("processes", 1)
    program = "zoo" if processes == 1 else f"torchrun --nproc-per-node {processes} -m zoo"
    form = f" --dtype {precision.dtype}" if precision.dtype != "fp32" else ""
    if precision.rounds and not form:
        form = f" --storage {precision.storage}"
    if opset is not None:
        form += f" --opset {opset}"
    return f"{program} train {trained.name} {' '.join(options)} && zoo export {trained.name}{form}"


def _too_large(folder: Path, precision: Precision) -> bool:
    """Tell whether a file of an export is too large for a repository; raise NotPublishable where float16 would help."""
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    size = largest.stat().st_size
    if MAX_FILE < size < 2 * MAX_FILE and not precision.rounds:
        raise NotPublishable(
            f"{largest} has {size:,} bytes, and a file in the repository may have {MAX_FILE:,}: "
            "`zoo export --storage fp16` halves it"
        )
    return size > MAX_FILE


def _require_room(weights: Path, name: str, size: int, precision: Precision) -> None:
    """Raise NotPublishable where all of the repository's weights would be too large with this model's `size` bytes."""
    others = [path for path in weights.glob("*/**/*") if path.is_file() and weights / name not in path.parents]
    total = size + sum(path.stat().st_size for path in others)
    if total > MAX_WEIGHTS:
        remedy = "" if precision.rounds else "`zoo export --storage fp16` halves it, or "
        raise NotPublishable(
            f"with {name}, {weights} would hold {total:,} bytes, and may hold {MAX_WEIGHTS:,}: "
            f"{remedy}use it from your own weights"
        )
