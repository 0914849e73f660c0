"""Export a trained network to a layout: what `zoo export --layout` calls."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export.deploy.triton import require_model_folder, write_triton
from export.deploy.web import require_web, write_web
from export.description import CHECKPOINT_FILE
from runtime.cli.console import Bar, note
from runtime.cli.fetch import fetch_with_bar
from runtime.errors import ModelNotFound
from runtime.model.registry import StoredModel, find_model
from zoo.models import canonical_name
from zoo.publishing.publish import export_trained
from zoo.runs import checkpoint as checkpoint_file
from zoo.runs.checkpoint import CheckpointError, CheckpointMissing
from zoo.runs.trained import load_trained


def _web(stored: StoredModel, folder: Path) -> dict[str, Any]:
    written = write_web(stored, folder)
    return {"folder": str(written), "next": f"serve it with any static server: python -m http.server -d {written}"}


def _triton(stored: StoredModel, folder: Path) -> dict[str, Any]:
    version = write_triton(stored, folder)
    done = f"version {version.number}" + ("" if version.new else ", which was there already")
    return {
        "folder": str(version.folder.parent),
        "version": version.number,
        "new": version.new,
        "next": f"{done}; serve it with tritonserver --model-repository={folder}",
    }


LAYOUTS: dict[str, Callable[[StoredModel, Path], dict[str, Any]]] = {"web": _web, "triton": _triton}


def export_layout(model: str, layout: str, folder: Path, checkpoint: Path | None = None) -> dict[str, Any]:
    """Write a model in a layout; return what was written where.

    The weights are those that `zoo export` takes. Where that export exists already it is used as it is; else it is made
    and proved first. A machine without any weights, as one with the wheel alone, uses the file that the name means.

    Raises:
        UsageError: no such model, or several runs that the weights may be of.
        LayoutRefused: something the layout needs is missing, or something else is in its place.
        VerificationFailed: a check failed; nothing was written.
        CheckpointError: there are no such weights, or they are damaged.
    """
    name = canonical_name(model)
    if layout == "web":  # what would be refused, before the minutes that a proof may take
        require_web(folder)
    else:
        require_model_folder(folder / name)
    stored = exported(name, checkpoint)
    made_from = (stored.entry or {}).get("checkpoint")
    written = {"model": stored.name, "layout": layout, "file": str(stored.path), "checkpoint": made_from}
    return written | LAYOUTS[layout](stored, folder)


def exported(model: str, checkpoint: Path | None = None) -> StoredModel:
    """Return the export of these weights: the file that the name means, if it was made from them, else a new one.

    Raises:
        CheckpointMissing: there are no weights here, and no file of the name either.
        CheckpointError: there are, and they are damaged; another file of the name would be another model.
        VerificationFailed: a check failed.
    """
    name = canonical_name(model)
    try:
        trained = load_trained(name, checkpoint)
    except CheckpointMissing as missing:
        try:
            return find_model(name)
        except ModelNotFound:
            raise missing from None  # it says how to train one
    note(trained.source)
    made_from = trained.checkpoint.sha256()
    with contextlib.suppress(ModelNotFound, CheckpointError):
        stored = find_model(name)
        if ((stored.entry or {}).get("checkpoint") or {}).get("sha256") == made_from:
            return stored
        beside = checkpoint_file.load(stored.path.parent / CHECKPOINT_FILE)  # rounded, of a half-size export
        if stored.entry and beside.rounded_from == made_from:
            return stored
    fetch_with_bar()
    with Bar(f"exporting {name}", total=None):
        export_trained(trained)
    return find_model(name)
