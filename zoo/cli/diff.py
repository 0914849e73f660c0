"""`zoo diff`: what changed between two ONNX files."""

from pathlib import Path

import click

from runtime.cli.console import Command, emit, emit_json, json_option


@click.command("diff", cls=Command)
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def diff_command(first: Path, second: Path, as_json: bool) -> None:
    """Say what changed between two ONNX files: nodes, attributes, weights, metadata, answers to the same pictures.

    Where one holds integers, how far each layer is from the other's.

    \b
    Example: zoo diff old.onnx new.onnx
    """
    from export.bundle.diff import diff
    from runtime.cli.fetch import fetch_with_bar
    from runtime.datasets.fashion_mnist import load

    fetch_with_bar()
    found = diff(first.read_bytes(), second.read_bytes(), load("test")[0][:256])
    if as_json:
        emit_json(found.as_dict())
        return
    for title in ("form", "nodes", "weights", "metadata", "layers"):
        for line in getattr(found, title):
            emit(f"{title}: {line}")
    for name, difference in found.outputs.items():
        emit(
            f"outputs: {name} " + ("cannot be compared" if difference is None else f"differ by up to {difference:.3g}")
        )
