"""`runtime parity`: compare this device with the stored answers of the network."""

from typing import Any

import click

from runtime.cli.console import (
    Command,
    compute_options,
    emit,
    emit_json,
    emit_table,
    json_option,
    model_option,
    open_classifier,
)


@click.command(cls=Command)
@model_option
@click.option("--live", is_flag=True, hidden=True, help="Moved: zoo parity MODEL.")
@compute_options
@json_option
def parity(model: str | None, live: bool, device: str, tf32: bool, threads: int | None, as_json: bool) -> None:
    """Check that this machine's device gives the answers of the PyTorch network the model was made from.

    The network's answers to 16 pictures travel with the model; how far a right device may be from them follows from
    PyTorch's own float32 error, measured when the model was verified. Exits with 3 where the answers differ by more.

    \b
    Example: runtime parity -m lenet --device cuda --json
    """
    if live:
        raise click.UsageError(f"--live is now a command of `zoo`: zoo parity {model or 'lenet'}")
    from runtime.evaluation.parity import measure_parity

    classifier = open_classifier(model, device, threads, tf32)
    report = measure_parity(classifier)
    emit_parity(report, as_json)
    report.require()


def emit_parity(report: Any, as_json: bool) -> None:
    """Print a parity report, output by output."""
    if as_json:
        emit_json(report.as_dict())
        return
    emit_table(
        ["output", "result", "largest difference", "allowed"],
        [
            [row.output, "right" if row.passed else "WRONG", f"{row.max_abs_diff:.2g}", f"{row.tolerance:.2g}"]
            for row in report.outputs
        ],
        right=["largest difference", "allowed"],
    )
    verdict = "passed" if report.passed else "FAILED"
    emit(f"{report.model} on {report.device}: {verdict}, {report.flips} of {report.images} pictures change class")
