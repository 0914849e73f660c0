"""`zoo export`: from a checkpoint to a verified ONNX file."""

from pathlib import Path

import click

from runtime.cli.console import Bar, Command, emit, emit_json, json_option, note
from zoo.cli.options import DTYPE, checkpoint_option, model_argument


@click.command(cls=Command)
@model_argument
@checkpoint_option
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path), help="Folder of the artifacts.")
@click.option(
    "--layout",
    type=click.Choice(["web", "triton"]),
    help="Also write it into -o as a static folder that predicts in the browser, or a Triton model repository.",
)
@click.option(
    "--dtype", type=DTYPE, default="fp32", show_default=True, help="What the file computes in; its edges stay the same."
)
@click.option(
    "--storage",
    type=DTYPE,
    default=None,
    show_default="as --dtype",
    help="What it keeps kernels and matrices in: fp16 halves the file, and computes in fp32.",
)
@click.option("--opset", type=int, help="The ONNX opset that PyTorch's exporter writes, 18 to 23.  [default: 20]")
@click.option(
    "--twin",
    type=click.Path(path_type=Path),
    help="A run of the same recipe with --val-split, to fit the confidence with.",
)
@json_option
def export(
    model: str,
    checkpoint: Path | None,
    output: Path | None,
    layout: str | None,
    dtype: str,
    storage: str | None,
    opset: int | None,
    twin: Path | None,
    as_json: bool,
) -> None:
    """Freeze a trained MODEL into one ONNX file, verified before it is written.

    The weights are those of your run in $ZOO_HOME/runs/MODEL, else of your last export, else the published ones. Which
    were taken is said, and between several runs none is chosen for you. From then on `-m MODEL` means this file;
    `runtime info` says so. With --layout, an export of the same weights is used as it is.

    The temperature of its probabilities, and the threshold below which a picture is called no garment, are fitted on
    images that it was not trained on: the 10,000 that its run held out, or with --twin that run's; else on training
    images that are turned, scaled and shifted a little. The file says on which.

    \b
    Example: zoo export lenet
             zoo export lenet --layout web -o site
    """
    if layout is not None:
        if output is None:
            raise click.UsageError("--layout needs -o, the folder to write")
        if (dtype, storage or "fp32", opset, twin) != ("fp32", "fp32", None, None):
            raise click.UsageError(
                "--layout takes an export as it is: give --dtype, --storage, --opset or --twin in an export before"
            )
        _export_layout(model, layout, output, checkpoint, as_json)
        return
    from runtime.cli.fetch import fetch_with_bar
    from zoo.publishing.publish import export_trained
    from zoo.runs.trained import load_trained

    trained = load_trained(model, checkpoint)
    note(trained.source)
    fetch_with_bar()
    with Bar(f"exporting {trained.name}", total=None):
        entry, folder = export_trained(
            trained,
            output,
            dtype=dtype,
            storage=storage,
            opset=opset,
            twin=None if twin is None else load_trained(model, twin),
        )
    if as_json:
        emit_json(entry | {"checkpoint": entry["checkpoint"] | {"path": str(trained.checkpoint.path)}})
        return
    emit(
        f"{folder / 'model.onnx'}  {entry['bytes']:,} bytes, opset {entry['opset']}, "
        f"test accuracy {entry['accuracy']['top1']:.4f}, {len(entry['verified']['checks'])} checks passed"
    )
    confidence = entry["confidence"]
    emit(
        f"temperature {confidence['temperature']}, calibration error {confidence['ece']['before']:.4f} before and "
        f"{confidence['ece']['after']:.4f} after it; fitted on {confidence['fitted_on']['n']:,} images "
        f"({confidence['fitted_on']['split']})"
    )
    if entry["rounding"]:
        from export.verification.accuracy_change import AccuracyChange

        emit(f"rounded: {AccuracyChange(**entry['rounding'])}")


def _export_layout(model: str, layout: str, output: Path, checkpoint: Path | None, as_json: bool) -> None:
    from zoo.publishing.deploy import export_layout

    written = export_layout(model, layout, output, checkpoint)
    if as_json:
        emit_json(written)
    else:
        emit(f"{written['folder']}  {layout} layout of {written['model']}; {written['next']}")
