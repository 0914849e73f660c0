"""Write the artifact: a folder with the ONNX file, its report, card and test data, only if every check passes."""

import contextlib
import dataclasses
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import torch
from torch import nn

from export.analysis.cost import count_operations
from export.bundle.card import model_card
from export.bundle.index import index_with
from export.bundle.test_data import golden_tensors
from export.convert.exporter import translate, with_metadata
from export.convert.normalization import deployed
from export.convert.preconditions import require_contract, require_images, require_labels, require_max_drop
from export.convert.sensitivity import choose_float_layers
from export.description import CHECKPOINT_FILE, Description
from export.precision import Precision
from export.verification.accuracy_change import AccuracyChange
from export.verification.context import MAX_DROP, VerificationContext
from export.verification.evidence import Pixels
from export.verification.report import Report
from export.verification.runner import verify
from export.verification.speed import measure_speed, require_faster
from runtime.errors import DeviceUnavailable, FashionZooError, UsageError
from runtime.evaluation.calibration import BINS, calibration_error, softmax
from runtime.evaluation.parity import REPORT
from runtime.model.metadata import CONFIDENCE, input_specs, output_specs, parse_metadata
from runtime.model.registry import INDEX, MODEL_FILE, read_index
from runtime.model.spec import FASHION_MNIST, InputSpec
from runtime.storage import locked, new_folder_beside, sync_folder, write_bytes, write_synced
from runtime.strict_json import json_bytes

SECONDS_FOR_ANOTHER = 10  # to wait for a process that writes here: it has verified its file, and needs less


class FolderBusy(FashionZooError):
    """Another process is writing into the same weights folder."""


def export_network(
    network: nn.Module,
    weights: str | os.PathLike[str],
    description: Description,
    *,
    input: InputSpec = FASHION_MNIST,
    images: Pixels,
    labels: npt.NDArray[Any],
    checkpoint: str | os.PathLike[str] | bytes | None = None,
    device: str = "cpu",
    dtype: str = "fp32",
    storage: str = "fp32",
    opset: int | None = None,
    calibration: Pixels | None = None,
    validation: tuple[Pixels, npt.NDArray[Any]] | None = None,
    max_drop: float = MAX_DROP,
    purpose: str = "speed",
) -> Report:
    """Freeze a network into `weights/<name>/`, prove it, and enter it in `weights/index.json`.

    Args:
        network: as it was trained, images -> logits: float32 (N, K); it knows nothing of this project. With a mean in
            `input` its images are normalised float32 (N, C, H, W), else as the file's.
        weights: the folder of artifacts; created if need be.
        description: what the file will say of itself.
        input: of the file, which normalises inside where this has a mean.
        images: real test pictures, the file's input: the declared accuracy is measured on them.
        labels: their classes, int (N,).
        checkpoint: the safetensors file that the weights came from, or its bytes, to be copied beside the graph.
        device: where the graph is run to be verified.
        dtype: what the file computes in, fp32, fp16 or int8; inputs and outputs are the same.
        storage: what it keeps kernels and matrices in, fp32, fp16, int8 or int4; see `export.precision`.
        opset: what it states; by default the exporter's own, `export.convert.exporter.OPSET`.
        calibration: for int8, images that its activations are typical of, as they were in training; some hundred.
        validation: for int8, other images and their classes, by which layers are chosen to stay in float32; by default
            the calibration images, with the network's own answers.
        max_drop: how much accuracy integers may cost, as a share of the images.
        purpose: "speed", or "size" for an int8 file even where it is slower here than float32.

    Returns:
        The report, in which every check has passed.

    Raises:
        VerificationFailed: a check failed; nothing was written.
        UsageError: the network, `images`, `labels` or the description's labels are not as asked for above, there is no
            such dtype or storage, the exporter does not write this opset, or the network is beyond one of them, or
            loses too much in int8 whichever layers stay in float32.
        NotFaster: int8 is slower than float32 here, and not size was asked for; nothing was written.
        ModelInvalid: the index that is there is damaged; it is left as it is.
        FolderBusy: another process is writing there.
        OSError: nothing can be written; an older artifact is whole.
    """
    weights = Path(weights)
    read_index(weights)  # a damaged one is refused before the work
    images = require_images(images, input)
    require_max_drop(max_drop)
    classes = require_contract(deployed(network, input), input)
    labels = require_labels(labels, len(images), classes)
    if len(description.labels) != classes:
        raise UsageError(
            f"the description names {len(description.labels)} labels, but {type(network).__name__} tells {classes} "
            "classes apart: give a label for each of its outputs, in their order"
        )
    precision, chosen = Precision(dtype, storage), None
    if precision.dtype == "int8":
        if calibration is None or not len(calibration):
            raise UsageError(
                "int8 needs images to calibrate its activations on, as they were in training: give calibration=images"
            )
        calibration = require_images(calibration, input, "calibration")
        chosen = choose_float_layers(network, calibration, validation, max_drop, opset, input)
        precision = chosen.precision
    description = dataclasses.replace(description, precision=precision)
    weights_file = checkpoint if isinstance(checkpoint, bytes | None) else Path(checkpoint).read_bytes()
    if weights_file is not None:
        digest = hashlib.sha256(weights_file).hexdigest()
        description = dataclasses.replace(description, checkpoint={"file": CHECKPOINT_FILE, "sha256": digest})
    content, context, description = _frozen(network, description, images, labels, device, opset, input, calibration)
    expected = expectations(description) | description.precision.as_dict()
    expected |= {CONFIDENCE: description.metadata(None)[CONFIDENCE]}
    report = verify(
        network,
        content,
        input=input,
        images=images,
        labels=labels,
        expected=expected,
        device=device,
        calibration=calibration,
        max_drop=max_drop,
    )
    report.require()
    if precision.in_integers:
        speeds = measure_speed(content, images, device)
        if precision.dtype == "int8" and purpose == "speed":
            require_faster(speeds)
        measured = {"speed": [speed.as_dict() for speed in speeds]} | (chosen.as_dict() if chosen else {})
        report = dataclasses.replace(report, conditions=report.conditions | {"quantization": measured})
    files = {MODEL_FILE: content, REPORT: json_bytes(report.as_dict())} | golden_tensors(context)
    if weights_file is not None:
        files[CHECKPOINT_FILE] = weights_file
    write_artifact(weights, index_entry(network, content, description, report), files)
    return report


def expectations(description: Description) -> dict[str, Any]:
    """Return the metadata that a file of this description must declare."""
    fields = description.metadata(None)
    return {name: fields[name] for name in ("model", "labels", "recipe", "seed", "epochs", "checkpoint", "license")}


def _frozen(
    network: nn.Module,
    description: Description,
    images: Pixels,
    labels: npt.NDArray[Any],
    device: str,
    opset: int | None,
    input: InputSpec,
    calibration: Pixels | None = None,
) -> tuple[bytes, VerificationContext, Description]:
    """Translate the network, and declare in the file the accuracy and the calibration error that it itself reaches."""
    temperature = description.confidence.temperature if description.confidence else 1.0
    model = translate(network, description.precision, opset, input, calibration, temperature)
    content = with_metadata(model, description.metadata(None), input)
    draft = VerificationContext(network, content, images, labels, {}, device, input=input)
    try:
        correct = int((draft.graph_logits.argmax(1) == labels).sum())
    except DeviceUnavailable:
        raise
    except Exception:  # it cannot be run at all: the checks say why
        return draft.content, draft, description
    accuracy = {"n": len(labels), "correct": correct, "top1": correct / len(labels)}
    if description.confidence is not None:
        errors = [calibration_error(softmax(draft.graph_logits, t), labels) for t in (1.0, temperature)]
        ece = dict(zip(("before", "after"), [round(error, 6) for error in errors], strict=True))
        ece |= {"n": len(labels), "bins": BINS}
        description = dataclasses.replace(description, confidence=dataclasses.replace(description.confidence, ece=ece))
    return with_metadata(model, description.metadata(accuracy), input), draft, description


def index_entry(network: nn.Module, content: bytes, description: Description, report: Report) -> dict[str, Any]:
    """Return the line of `index.json` for a verified file."""
    model = onnx.load_from_string(content)
    metadata = parse_metadata({prop.key: prop.value for prop in model.metadata_props}, description.name)
    return {
        "name": description.name,
        "file": f"{description.name}/{MODEL_FILE}",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "opset": model.opset_import[0].version,
        "ir_version": model.ir_version,
        "input": metadata.input.as_dict(),
        "inputs": [spec.as_dict() for spec in input_specs(metadata.input)],
        "outputs": [spec.as_dict() for spec in output_specs(len(metadata.labels))],
        "dtype": metadata.fields["dtype"],
        "storage": metadata.fields["storage"],
        "quantization": _quantization(metadata.fields["quantization"], report),
        "labels": list(metadata.labels),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "flops": count_flops(network, metadata.input),
        "accuracy": metadata.fields["accuracy"],
        "dataset": description.dataset,
        "confidence": metadata.confidence and metadata.confidence.as_dict(table=False),
        "recipe": description.recipe,
        "seed": description.seed,
        "epochs": description.epochs,
        "trained_on": description.trained_on,
        "checkpoint": description.checkpoint,
        "license": description.license,
        "rounding": dataclasses.asdict(_accuracy_change(report)) if Precision.of(metadata.fields).rounds else None,
        "verified": {"date": report.conditions["date"], "checks": [check.name for check in report.checks]},
    }


def _quantization(declared: dict[str, Any] | None, report: Report) -> dict[str, Any] | None:
    """Return what a file with integers says of them, and how fast it was where it was exported; None for others."""
    speeds = report.conditions.get("quantization", {}).get("speed")
    found = (declared or {}) | ({"speed": speeds} if speeds else {})
    return found or None


def _accuracy_change(report: Report) -> AccuracyChange:
    """Return how many decisions of the network and of the file differ, as the decisions check counted them."""
    (measures,) = (check.measures for check in report.checks if check.name == "decisions")
    return AccuracyChange(measures["images"], measures["flips"], measures["lost"], measures["gained"])


def count_flops(network: nn.Module, input: InputSpec = FASHION_MNIST) -> int:
    """Return the floating-point operations of one image, two to a multiply-add, as PyTorch counts them."""
    floats = input.mean is not None or input.datatype == "FP32"
    device = next(network.parameters(), torch.empty(0)).device
    image = torch.zeros(1, *input.shape, dtype=torch.float32 if floats else torch.uint8, device=device)
    return count_operations(network.eval(), image)


def write_artifact(weights: str | os.PathLike[str], entry: dict[str, Any], files: dict[str, bytes]) -> None:
    """Put a verified model's files and its index entry in place, the old ones until the last moment.

    The folder is written in full under another name and then swapped in, so an interruption leaves the old model; where
    the index cannot follow, the old folder is put back.

    Raises:
        ModelInvalid: the index that is there is damaged; all is as it was.
        FolderBusy: another process is writing there.
        OSError: nothing can be written; all is as it was.
    """
    weights = Path(weights)
    busy = FolderBusy(f"another process is writing to {weights}; try again when it has ended")
    with locked(weights / ".lock", busy, SECONDS_FOR_ANOTHER):
        target, old = weights / entry["name"], weights / f".{entry['name']}.old"
        if old.exists() and not os.path.lexists(target):  # an earlier swap was cut off half-way
            old.rename(target)
        index = index_with(weights, entry)
        new = new_folder_beside(target)
        try:
            for name, content in (files | {"README.md": model_card(entry).encode()}).items():
                write_synced(new / name, content)
            _remove(old)
            _swap(new, target, old, weights / INDEX, index)
        finally:
            _remove(new)
        sync_folder(weights)
        _remove(old)


def _swap(new: Path, target: Path, old: Path, index: Path, content: bytes) -> None:
    """Move `target` to `old`, `new` to `target` and `content` into the index: all of it, or none."""
    before = index.read_bytes() if index.exists() else None
    try:
        with contextlib.suppress(FileNotFoundError):
            target.rename(old)
        new.rename(target)
        write_bytes(index, content)
    except BaseException:
        if before == (index.read_bytes() if index.exists() else None):  # else the swap is done, and only that is whole
            if not new.exists():
                target.rename(new)
            if os.path.lexists(old):
                old.rename(target)
        raise


def _remove(path: Path) -> None:
    """Remove a folder, or a link to one but not what it leads to; what resists is left."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
