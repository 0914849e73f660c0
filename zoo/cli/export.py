"""`zoo export`: from a checkpoint to a verified ONNX file."""

import functools
from pathlib import Path
from typing import Any

import click

from runtime.cli.console import Bar, Command, emit, emit_json, json_option, note
from zoo.cli.options import (
    DTYPE,
    STORAGE,
    checkpoint_option,
    max_drop_option,
    model_argument,
    own_network,
    own_network_options,
)


@click.command(cls=Command)
@functools.partial(model_argument, required=False)
@checkpoint_option
@own_network_options
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
    type=STORAGE,
    default=None,
    show_default="as --dtype",
    help="What it keeps kernels and matrices in: fp16 halves the file, and computes in fp32; int8 and int4 are for the "
    "matrices of linear layers, the rest is fp16.",
)
@max_drop_option("With integers: how much accuracy they may cost, as a share of the images.")
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["speed", "size"]),
    default="speed",
    show_default=True,
    help="With --dtype int8: a file that is slower here than fp32 is only written for its size.",
)
@click.option("--opset", type=int, help="The ONNX opset that PyTorch's exporter writes, 18 to 23.  [default: 20]")
@json_option
def export(
    model: str | None,
    checkpoint: Path | None,
    output: Path | None,
    layout: str | None,
    dtype: str,
    storage: str | None,
    opset: int | None,
    max_drop: float,
    purpose: str,
    as_json: bool,
    **own: Any,
) -> None:
    """Freeze a trained MODEL into one ONNX file, verified before it is written.

    The weights are those of your run in $ZOO_HOME/runs/MODEL, else of your last export, else the published ones. The
    command says which; where there are several runs, name one with --checkpoint. From then on `-m MODEL` means this
    file, unless -o named another folder; `runtime info` says so. With --layout, an export of the same weights is used
    as it is.

    With --module, a network of your own is exported as MODEL: its weights, labels and pictures are files of yours.

    The temperature of its probabilities, and the threshold below which a picture is called no garment, are fitted on
    images that it was not trained on: the 10,000 that its run held out, else on training images that are turned, scaled
    and shifted a little. The file says on which.

    \b
    Example: zoo export lenet
             zoo export lenet --layout web -o site
             zoo export pets --module net.py:make --weights pets.pth --labels pets.txt --data-dir photos
    """
    if (found := own_network(model, **own)) is not None:
        if layout is not None or checkpoint is not None:
            raise click.UsageError(
                "--layout and --checkpoint are for networks of the zoo: leave them out with --module"
            )
        if dtype == "int8" and found[0].calibration is None:
            raise click.UsageError(
                "--dtype int8 needs --calibration, a folder of pictures as the network was trained on; --storage int8 "
                "needs none"
            )
        from export import Description, export_network
        from runtime.model.registry import read_index, user_weights

        given, name = found
        folder = output or user_weights()
        with Bar(f"exporting {name}", total=None):
            export_network(
                given.network,
                folder,
                Description(name=name, labels=given.labels),
                **given.pictures,
                dtype=dtype,
                storage=storage or dtype,
                opset=opset,
                max_drop=max_drop,
                purpose=purpose,
            )
        _tell(read_index(folder)[name], folder / name, as_json, "accuracy on these pictures")
        for question in given.doubts(folder / name / "model.onnx"):
            note(question)
        return
    assert model is not None
    if layout is not None:
        if output is None:
            raise click.UsageError("--layout needs -o, the folder to write")
        if (dtype, storage or "fp32", opset) != ("fp32", "fp32", None):
            raise click.UsageError(
                "--layout takes an export as it is: give --dtype, --storage or --opset in an export before"
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
            max_drop=max_drop,
            purpose=purpose,
        )
    _tell(entry | {"checkpoint": entry["checkpoint"] | {"path": str(trained.checkpoint.path)}}, folder, as_json)


def _tell(entry: dict[str, Any], folder: Path, as_json: bool, accuracy: str = "test accuracy") -> None:
    if as_json:
        emit_json(entry)
        return
    emit(
        f"{folder / 'model.onnx'}  {entry['bytes']:,} bytes, opset {entry['opset']}, "
        f"{accuracy} {entry['accuracy']['top1']:.4f}, {len(entry['verified']['checks'])} checks passed"
    )
    if confidence := entry["confidence"]:
        emit(
            f"temperature {confidence['temperature']}, calibration error {confidence['ece']['before']:.4f} before and "
            f"{confidence['ece']['after']:.4f} after it; fitted on {confidence['fitted_on']['n']:,} images "
            f"({confidence['fitted_on']['split']})"
        )
    if entry["rounding"]:
        from export.verification.accuracy_change import AccuracyChange

        emit(f"rounded: {AccuracyChange(**entry['rounding'])}")
    for speed in (entry["quantization"] or {}).get("speed", []):
        emit(
            f"batch {speed['batch']}: {speed['quantized_ms']:.3g} ms on this machine, {speed['ratio']:.2f}x as fast as "
            "float32"
        )
    if layers := (entry["quantization"] or {}).get("float_layers"):
        emit(f"in float32, as they cost most: {', '.join(layers)}")


def _export_layout(model: str, layout: str, output: Path, checkpoint: Path | None, as_json: bool) -> None:
    from zoo.publishing.deploy import export_layout

    written = export_layout(model, layout, output, checkpoint)
    if as_json:
        emit_json(written)
    else:
        emit(f"{written['folder']}  {layout} layout of {written['model']}; {written['next']}")
