"""`runtime doctor`: what this machine can run on, and what is missing."""

from typing import Any

import click

from runtime.cli.console import Command, device_option, emit, emit_json, emit_table, json_option, note


@click.command(cls=Command)
@click.option("--selftest", is_flag=True, help="Run D2L's worked examples on the device and check the answers.")
@device_option
@json_option
def doctor(selftest: bool, device: str, as_json: bool) -> None:
    """Show what this machine can run models on, what stands in the way, and the remedy.

    \b
    Example: runtime doctor --selftest --device cuda
    """
    from runtime.evaluation.doctor import as_lines, examine, is_healthy

    document, unavailable = examine(device, selftest=selftest)
    if as_json:
        emit_json(document)
    else:
        emit("\n".join(as_lines(document)))
        if document["selftest"]:
            emit_selftest(document["selftest"])
    if unavailable:
        raise unavailable
    if not is_healthy(document):
        raise SystemExit(1)


def emit_selftest(report: dict[str, Any]) -> None:
    """Print how each known answer came out, and what was wrong with those that are."""
    emit_table(
        ["book", "known answer", "result", "largest difference"],
        [
            [
                case["section"],
                case["title"],
                "right" if case["passed"] else "WRONG",
                "-" if case["max_abs_diff"] is None else f"{case['max_abs_diff']:.2g}",
            ]
            for case in report["cases"]
        ],
        right=["largest difference"],
    )
    for case in report["cases"]:
        if not case["passed"]:
            emit(f"{case['name']}: {case['error'] or 'expected {expected}, found {found}'.format(**case)}")
    if report["reason"]:
        note(f"using the CPU: {report['reason']}")
    right = report["n"] - report["failed"]
    emit(f"{right} of {report['n']} known answers right on {report['device']}, in {report['seconds']:.2f} s")
