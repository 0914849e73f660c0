"""Run the checks on a file, in order, and report every result. A failed check raises nothing here: that is left to
`Report.require`."""

import dataclasses
import hashlib
from datetime import UTC, datetime
from typing import Any

import numpy.typing as npt
import onnxruntime
import torch
from torch import nn

from export.convert.preconditions import require_contract, require_images, require_labels, require_max_drop
from export.description import library_versions
from export.precision import Precision
from export.verification.backends import version_of
from export.verification.checks import CHECKS
from export.verification.context import MAX_DROP, ONNXRUNTIME, CheckFailed, VerificationContext
from export.verification.evidence import Pixels
from export.verification.not_proved import not_proved
from export.verification.report import Check, Report
from runtime.errors import DeviceUnavailable, UsageError, shown
from runtime.model.spec import FASHION_MNIST, InputSpec


def verify(
    network: nn.Module,
    model: bytes,
    *,
    input: InputSpec = FASHION_MNIST,
    images: Pixels,
    labels: npt.NDArray[Any],
    expected: dict[str, Any] | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    engine: str = ONNXRUNTIME,
    calibration: Pixels | None = None,
    max_drop: float = MAX_DROP,
) -> Report:
    """Prove that an ONNX file is a network.

    Args:
        network: as it was trained, images -> logits: float32 (N, K), with its weights. With a mean in `input` its
            images are normalised float32 (N, C, H, W), else as the file's.
        model: the bytes of the file.
        input: of the file, which normalises inside where this has a mean.
        images: real pictures, the file's input; decisions are compared on all of them.
        labels: their classes, int (N,).
        expected: metadata that the file must carry, by field.
        device: where the graph runs: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: what the file must compute in, fp32, fp16 or int8; by default what it declares, which the report names.
        engine: what runs the file: onnxruntime, or on the CPU openvino, tract or reference.
        calibration: the images that a file which computes in int8 was calibrated on.
        max_drop: how much accuracy a file with integers may lose, as a share of the images.

    Returns:
        The result of every check. A file that is not self-contained, or that breaks a library, is not run here.

    Raises:
        DeviceUnavailable: the device asked for cannot be used.
        UsageError: the network, `images` or `labels` are not as asked for above, there is no such dtype or engine, or
            it knows no such device.
        EngineMissing: the engine is not installed.
    """
    if not isinstance(model, bytes | bytearray):
        raise UsageError(
            f"model: expected the bytes of an ONNX file, as Path.read_bytes(), found {type(model).__name__}"
        )
    images = require_images(images, input)
    require_max_drop(max_drop)
    if calibration is not None:
        calibration = require_images(calibration, input, "calibration")
    asked = {} if dtype is None else {"dtype": Precision(dtype).dtype}
    if engine != ONNXRUNTIME:
        version_of(engine)  # it is there, or that is said before the work
        if device not in ("auto", "cpu"):
            raise UsageError(f"{engine} is asked on the CPU only, not on {device}")
        device = "cpu"
    context = VerificationContext(
        network,
        model,
        images,
        labels,
        asked | (expected or {}),
        device,
        engine,
        input,
        calibration,
        max_drop,
    )
    context.labels = require_labels(labels, len(images), require_contract(context.network, input))
    checks: list[Check] = []
    unsafe = ""
    for name, check in CHECKS.items():
        if unsafe:
            checks.append(Check(name, False, f"not run, because of the failed check {unsafe!r}", {}, 0.0))
            continue
        try:
            with context.charged_to(name):
                result = check(context)
            passed, detail, measures = True, result.detail, result.measures
        except CheckFailed as failure:
            passed, detail, measures = False, str(failure), failure.measures
            unsafe = name if failure.fatal else ""
        except DeviceUnavailable:  # says nothing about the file
            raise
        except Exception as error:  # a damaged file may break a library anywhere: that is a verdict, not a crash
            passed, detail, measures = False, f"could not be run: {' '.join(str(error).split())}", {}
        checks.append(Check(name, passed, shown(detail), measures, 0.0))
    checks = [dataclasses.replace(check, seconds=context.seconds[check.name]) for check in checks]
    unproved = () if unsafe else not_proved(context)
    return Report(_model_name(context), tuple(checks), _conditions(context), unproved)


def _model_name(context: VerificationContext) -> str:
    try:
        return shown(context.metadata.model)
    except Exception:  # the signature check has said what is wrong
        return "the file"


def _precision(context: VerificationContext) -> dict[str, str] | None:
    try:
        return context.precision.as_dict()
    except Exception:  # the file cannot even be parsed
        return None


def _conditions(context: VerificationContext) -> dict[str, Any]:
    other = version_of(context.engine) if context.engine != ONNXRUNTIME else {}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "onnx_sha256": hashlib.sha256(context.content).hexdigest(),
        "images_sha256": hashlib.sha256(context.images.tobytes()).hexdigest(),
        "images": len(context.images),
        "engine": context.engine,
        "device": context.device,
        "precision": _precision(context),
        # Nodes by execution provider, as the session itself recorded them; {} if none was opened.
        "providers": context.opened.placement if "opened" in vars(context) else {},
        "tf32": False,
        "versions": library_versions() | {"onnxruntime": onnxruntime.__version__} | other,
        "reference": f"the network in float64, PyTorch {torch.__version__}, CPU",
    }
