"""The `runtime` command: parse, make one library call, print. Only Click is imported until a command runs."""

from __future__ import annotations

import click

from runtime.cli_bench import bench
from runtime.cli_doctor import doctor
from runtime.cli_measure import accuracy, parity
from runtime.cli_predict import predict
from runtime.cli_serve import serve
from runtime.console import CONTEXT_SETTINGS, Command, Group, emit, emit_json, emit_table, json_option
from runtime.options import device_option, model_option


@click.group(cls=Group, context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="fashion-zoo")
def runtime() -> None:
    """Run the zoo's ONNX models on pictures, without PyTorch.

    \b
    runtime predict shoe.png       what is in the picture
    runtime list                   the models on this machine
    runtime info -m lenet          everything a model says of itself
    runtime accuracy -m lenet      measure it on the 10,000 test images
    runtime parity -m lenet        is it the network it was made from, on this device
    runtime bench -m lenet         how fast it starts and runs here
    runtime doctor --selftest      what this machine can do, and whether it computes rightly
    runtime serve                  answer over HTTP, with a page for people at /
    """


for command in (predict, accuracy, parity, bench, doctor, serve):
    runtime.add_command(command)


@runtime.command("list", cls=Command)
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
                f"{(stored.entry or {}).get('parameters', 0):,}",
                f"{stored.path.stat().st_size:,}",
                stored.origin,
                stored.path,
            ]
            for stored in models
        ],
        right=["accuracy", "parameters", "bytes"],
    )


@runtime.command(cls=Command)
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
