"""`zoo verify`: every check of a stored file."""

import contextlib
import functools
from pathlib import Path
from typing import Any

import click

from runtime.cli.console import Bar, Command, emit, emit_json, emit_table, json_option, note
from zoo.cli.options import (
    CHECKPOINT,
    DTYPE,
    device_option,
    max_drop_option,
    model_argument,
    own_network,
    own_network_options,
    warn_of_later_runs,
)


@click.command(cls=Command)
@functools.partial(model_argument, required=False)
@own_network_options
@click.option("--onnx", "onnx_file", type=click.Path(dir_okay=False, path_type=Path), help="The file; else MODEL's.")
@click.option("--checkpoint", type=CHECKPOINT, help="Its weights, or the folder of their run; else those beside it.")
@click.option("--images", type=click.IntRange(1, 10_000), help="Use only the first so many test images.")
@click.option("--dtype", type=DTYPE, help="What the file must compute in; else what it declares.")
@click.option(
    "--engine",
    type=click.Choice(["onnxruntime", "openvino", "tract", "reference"]),
    default="onnxruntime",
    show_default=True,
    help="What runs the file; the others on the CPU. The reference is slow: give it few --images.",
)
@max_drop_option("Of a file with integers: how much accuracy they may cost, as a share of the images.")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Also write the report as JSON.")
@device_option
@json_option
def verify(
    model: str | None,
    onnx_file: Path | None,
    checkpoint: Path | None,
    images: int | None,
    dtype: str | None,
    engine: str,
    max_drop: float,
    output: Path | None,
    device: str,
    as_json: bool,
    **own: Any,
) -> None:
    """Prove that MODEL's ONNX file is its network: every check is run and reported; one that fails exits with 3.

    \b
    Example: zoo verify lenet --onnx model.onnx --checkpoint checkpoint.safetensors
             zoo verify --module net.py:make --weights pets.pth --labels pets.txt --data-dir photos --onnx model.onnx
    """
    from export.metadata import metadata_of
    from runtime.cli.fetch import fetch_with_bar
    from runtime.errors import ModelInvalid
    from runtime.storage import require_writable, write_bytes
    from runtime.strict_json import to_json
    from zoo.publishing.verify import find_pair, read_model_file, verify_stored

    if output is not None:
        require_writable(output)
    options: dict[str, Any] = {"device": device, "dtype": dtype, "engine": engine, "max_drop": max_drop}
    pair = None
    content, stored = b"", None
    if own["module"] is not None:
        if checkpoint is not None:
            raise click.UsageError("--module takes --weights, not --checkpoint")
        if onnx_file is None:
            raise click.UsageError("--module needs --onnx, the file to prove")
        content = read_model_file(onnx_file)
        with contextlib.suppress(ModelInvalid):  # a check says so
            stored = metadata_of(content, str(onnx_file)).input
    if (found := own_network(model, images, stored, **own)) is not None:
        from export.verification.runner import verify as verify_network

        given = found[0]
        expected = {"labels": list(given.labels)}
        with Bar(f"verifying {onnx_file}", total=None):
            report = verify_network(given.network, content, **given.pictures, expected=expected, **options)
        document = report.as_dict() | {"file": str(onnx_file)}
        if report.passed:
            assert onnx_file is not None
            for question in given.doubts(onnx_file):
                note(question)
    else:
        assert model is not None
        pair = find_pair(model, onnx_file, checkpoint)
        note(pair.source)
        note(pair.trained.source)
        fetch_with_bar()
        with Bar(f"verifying {model}", total=None):
            report = verify_stored(pair, images=images, **options)
        document = report.as_dict()
        document |= {"file": str(pair.stored.path), "checkpoint": str(pair.trained.checkpoint.path)}
    if output is not None:
        write_bytes(output, (to_json(document, indent=2) + "\n").encode())
    if as_json:
        emit_json(document)
    else:
        print_report(report)
    if pair is not None and pair.stored.origin == "user":
        warn_of_later_runs(pair.trained.checkpoint)
    if not report.passed:
        raise SystemExit(3)


def print_report(report: Any) -> None:
    """Print a verification as a table."""
    emit_table(
        ["check", "verdict", "finding", "seconds"],
        [
            [check.name, "passed" if check.passed else "FAILED", check.detail, f"{check.seconds:.2f}"]
            for check in report.checks
        ],
        right=["seconds"],
    )
    for kind in dict.fromkeys((each["operator"], each["reason"]) for each in report.not_proved):
        nodes = [each["node"] for each in report.not_proved if (each["operator"], each["reason"]) == kind]
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        emit(f"not proved: {kind[0]} ({nodes[0]}{more}): {kind[1]}")
    failed = len(report.failures)
    emit(f"{report.model}: " + ("every check passed" if report.passed else f"{failed} of {len(report.checks)} failed"))
