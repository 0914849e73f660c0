"""Everything that is known of an open model, as `runtime info` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime import contract
from runtime.live import LiveSession
from runtime.store import find_entry

if TYPE_CHECKING:
    from runtime.classifier import Classifier


def describe(classifier: Classifier, live: LiveSession) -> dict[str, Any]:
    """Return the file, its metadata, its entry in an index, if any has its content, and where its nodes are."""
    metadata = classifier.metadata
    described = {name: value for name, value in metadata.fields.items() if name not in ("format", "model")}
    entry = classifier.entry or find_entry(classifier.sha256) or {}
    return {
        "model": classifier.name,
        "file": str(classifier.path),
        "origin": classifier.origin,
        "bytes": classifier.bytes,
        "sha256": classifier.sha256,
        "parameters": entry.get("parameters"),
        "flops": entry.get("flops"),
        "inputs": [str(spec) for spec in contract.input_specs()],
        "outputs": [str(spec) for spec in contract.output_specs(len(classifier.labels))],
        **described,
        "verified": entry.get("verified"),
        "device": classifier.device,
        "device_reason": classifier.device_reason,
        "placement": classifier.placement,
        "gpu": _gpu(classifier, live),
    }


def _gpu(classifier: Classifier, live: LiveSession) -> dict[str, Any] | None:
    bound = live.bound
    if bound is None:
        return None
    settings = {"tf32": classifier.tf32} | live.tuning.as_dict() | {"graphs": bound.graphs}
    return settings | {"batch_sizes": bound.captured, "notice": live.notice}
