"""`zoo eval`: measure a checkpoint on the test images."""

from pathlib import Path

import click

from runtime.cli.console import Command, emit, emit_json, emit_table, json_option, note
from zoo.cli.options import checkpoint_option, device_option, model_argument


@click.command("eval", cls=Command)
@model_argument
@checkpoint_option
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path), help="Also draw pictures into it.")
@device_option
@json_option
def eval_command(model: str, checkpoint: Path | None, output: Path | None, device: str, as_json: bool) -> None:
    """Measure a trained MODEL on the 10,000 test images, in PyTorch.

    The temperature is fitted as `zoo export` fits it, on no test image.

    \b
    Example: zoo eval lenet --checkpoint checkpoint.safetensors -o pictures
    """
    from runtime.cli.fetch import fetch_with_bar
    from zoo.data.dataset import load_split
    from zoo.publishing.confidence import fit
    from zoo.runs.folder import RunFolder
    from zoo.runs.trained import load_trained
    from zoo.training.device import choose_device, configure_backends
    from zoo.training.evaluation import evaluate

    trained = load_trained(model, checkpoint)
    note(trained.source)
    chosen = choose_device(device)
    configure_backends(chosen)
    fetch_with_bar()
    images = load_split("test", chosen)
    evaluation = evaluate(trained.network.to(chosen), images)
    confidence = fit(trained)
    temperature = confidence.temperature
    if output is not None:
        RunFolder(output).draw_answers(evaluation, images, temperature)
    report = {"model": trained.name, "checkpoint": str(trained.checkpoint.path)} | evaluation.as_dict()
    report["confidence"] = confidence.as_dict(table=False) | {
        "ece": {"before": evaluation.calibration_error(), "after": evaluation.calibration_error(temperature)},
        "reliability": {"before": evaluation.reliability(), "after": evaluation.reliability(temperature)},
    }
    if as_json:
        emit_json(report)
        return
    emit(
        f"{trained.name}: {evaluation.correct:,} of {len(evaluation.labels):,} right, "
        f"top-1 {evaluation.accuracy:.4f}, calibration error {evaluation.calibration_error():.4f}, "
        f"{evaluation.calibration_error(temperature):.4f} at its temperature of {temperature}"
    )
    emit_table(
        ["class", "right", "of", "accuracy"],
        [[row["label"], row["correct"], row["n"], f"{row['accuracy']:.4f}"] for row in report["per_class"]],
        right=["right", "of", "accuracy"],
    )
