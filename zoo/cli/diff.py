"""`zoo diff`: what changed between two ONNX files."""

from pathlib import Path

import click

from runtime.cli.console import Command, emit, emit_json, json_option

MOST_LINES = 20  # of each part but the layers


@click.command("diff", cls=Command)
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def diff_command(first: Path, second: Path, as_json: bool) -> None:
    """Say what changed between two ONNX files: nodes, attributes, weights, metadata, answers to the same pictures.

    Where one holds integers, how far each layer is from the other's. Of long lists the first 20 lines are shown; --json
    has all. The pictures are Fashion-MNIST's, or of a network
    with another input random and structured ones.

    \b
    Example: zoo diff old.onnx new.onnx
    """
    import numpy as np

    from export.bundle.diff import diff
    from export.metadata import metadata_of
    from runtime.cli.fetch import fetch_with_bar
    from runtime.datasets.fashion_mnist import load
    from runtime.errors import ModelInvalid
    from runtime.model.spec import FASHION_MNIST

    content = first.read_bytes()
    try:
        input = metadata_of(content, str(first)).input
    except ModelInvalid:  # the diff shows what is missing
        input = FASHION_MNIST
    if input.preprocess == "garment":
        fetch_with_bar()
        images = load("test")[0][:256]
    else:
        images = np.concatenate([input.structured(), input.random(16)])
    found = diff(content, second.read_bytes(), images)
    if as_json:
        emit_json(found.as_dict())
        return
    for title in ("form", "nodes", "weights", "metadata", "layers"):
        lines = getattr(found, title)
        most = len(lines) if title == "layers" or len(lines) == MOST_LINES + 1 else MOST_LINES
        for line in lines[:most]:
            emit(f"{title}: {line}")
        if lines[most:]:
            emit(f"{title}: and {len(lines) - most} more, which --json lists")
    for name, difference in found.outputs.items():
        emit(
            f"outputs: {name} " + ("cannot be compared" if difference is None else f"differ by up to {difference:.3g}")
        )
