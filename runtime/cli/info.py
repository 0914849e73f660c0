"""`runtime info`: what a model says of itself."""

import click

from runtime.cli.console import Command, device_option, emit, emit_json, json_option, model_option

MOST = 20  # values of a list that are shown; --json has all


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
            more = f" and {len(value) - MOST} more" if len(value) > MOST else ""
            value = ", ".join(str(part) for part in value[:MOST]) + more
        emit(f"{key:<14} {'-' if value is None else value}")
