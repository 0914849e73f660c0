"""What the server says of itself and of its models, in the Open Inference Protocol's terms."""

from __future__ import annotations

from typing import Any

from runtime import __version__
from runtime.contract import TensorSpec, input_specs, output_specs
from runtime.serving.inference import EXTENSIONS, VERSION
from runtime.serving.served import ServedModel

PLATFORM = "onnx_onnxv1"  # the protocol's word


def server() -> dict[str, Any]:
    """Return the server's metadata."""
    return {"name": "fashion-zoo", "version": __version__, "extensions": list(EXTENSIONS)}


def metadata(model: ServedModel) -> dict[str, Any]:
    """Return a model's metadata; the dimension that may vary is -1."""
    return {
        "name": model.name,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in input_specs()],
        "outputs": [_tensor(spec) for spec in output_specs(len(model.classifier.labels))],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return spec.as_dict() | {"shape": [-1 if isinstance(size, str) else size for size in spec.shape]}


def index_entry(model: ServedModel) -> dict[str, str]:
    """Return a model's line of the repository index."""
    state, reason = ("READY", "") if model.ready else ("UNAVAILABLE", "being warmed up")
    return {"name": model.name, "version": VERSION, "state": state, "reason": reason}


def for_the_page(model: ServedModel) -> dict[str, Any]:
    """Return what a reader may want to know before choosing a model; accuracy is a share of 1, or null."""
    accuracy = model.classifier.metadata.fields.get("accuracy")
    return {
        "name": model.name,
        "accuracy": accuracy.get("top1") if isinstance(accuracy, dict) else None,
        "device": model.classifier.device,
        "labels": list(model.classifier.labels),
    }
