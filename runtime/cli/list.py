"""`runtime list`: which models there are."""

import click

from runtime.cli.console import Command, emit_json, emit_table, json_option


@click.command("list", cls=Command)
@json_option
def list_command(as_json: bool) -> None:
    """List the models on this machine, and which file each name means.

    \b
    Example: runtime list --json
    """
    from runtime.model.registry import find_model, list_models

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
