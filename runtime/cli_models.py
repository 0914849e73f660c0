"""`runtime list` and `runtime info`: which models there are, and what one says of itself."""

from __future__ import annotations

import click

from runtime.console import Command, device_option, emit, emit_json, emit_table, json_option, model_option


@click.command("list", cls=Command)
@json_option
def list_command(as_json: bool) -> None:
    """List the models on this machine, and which file each name means.

    \b
    Example: runtime list --json
    """
    from runtime.store import find_model, list_models

    models = list_models()
    default = find_model().name if models else None
    if as_json:
        emit_json([{**(stored.entry or {}), "path": str(stored.path), "origin": stored.origin} for stored in models])
        return
    emit_table(
        ["name", "accuracy", "parameters", "bytes", "origin", "file"],
        [
            [
                stored.name + (" (default)" if stored.name == default else ""),
                "-" if stored.accuracy is None else f"{stored.accuracy:.4f}",
                "-" if stored.parameters is None else f"{stored.parameters:,}",
                f"{stored.path.stat().st_size:,}",
                stored.origin,
                stored.path,
            ]
            for stored in models
        ],
        right=["accuracy", "parameters", "bytes"],
    )


@click.command(cls=Command)
@model_option
@device_option
@json_option
def info(model: str | None, device: str, as_json: bool) -> None:
    """Show everything a model says of itself, which file it is, and where its nodes run.

    \b
    Example: runtime info -m lenet --json
    """
    from runtime.classifier import Classifier

    document = Classifier(model, device=device).info()
    if as_json:
        emit_json(document)
        return
    for key, value in document.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {part}" for name, part in value.items())
        elif isinstance(value, list):
            value = ", ".join(str(part) for part in value)
        emit(f"{key:<14} {'-' if value is None else value}")
