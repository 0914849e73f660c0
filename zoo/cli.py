"""The `zoo` command: parse, make one library call, print. PyTorch is imported by the commands that need it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime import __version__
from runtime.console import (
    CONTEXT_SETTINGS,
    Bar,
    Group,
    emit,
    emit_json,
    emit_table,
    json_option,
    note,
)
from zoo.cli_listing import data, list_command, summary
from zoo.cli_measure import bench, parity
from zoo.cli_training import eval_command, train
from zoo.options import CHECKPOINT, DTYPE, checkpoint_option, device_option, model_argument

if TYPE_CHECKING:
    from zoo.checkpoint import Checkpoint


@click.group(cls=Group, context_settings=CONTEXT_SETTINGS)
@click.version_option(__version__)
def zoo() -> None:
    """Train the networks of the book on Fashion-MNIST, export them to ONNX, and prove the export.

    \b
    zoo train lenet                train, saving after every epoch
    zoo export lenet               freeze the trained network into one ONNX file
    zoo verify lenet               prove that the file is the network
    runtime predict shoe.png       use it, without PyTorch
    """


for command in (train, eval_command, list_command, summary, data, parity, bench):
    zoo.add_command(command)


@zoo.command()
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
@click.option("--opset", type=int, help="What the file states.  [default: the lowest that carries the graph]")
@json_option
def export(
    model: str,
    checkpoint: Path | None,
    output: Path | None,
    layout: str | None,
    dtype: str,
    storage: str | None,
    opset: int | None,
    as_json: bool,
) -> None:
    """Freeze a trained MODEL into one ONNX file, verified before it is written.

    The weights are those of your run in $ZOO_HOME/runs/MODEL, else of your last export, else the published ones. Which
    were taken is said, and between several runs none is chosen for you. From then on `-m MODEL` means this file;
    `runtime info` says so. With --layout, an export of the same weights is used as it is.

    \b
    Example: zoo export lenet
             zoo export lenet --layout web -o site
    """
    if layout is not None:
        if output is None:
            raise click.UsageError("--layout needs -o, the folder to write")
        if (dtype, storage or "fp32", opset) != ("fp32", "fp32", None):
            raise click.UsageError(
                "--layout takes an export as it is: give --dtype, --storage or --opset in an export before"
            )
        _export_layout(model, layout, output, checkpoint, as_json)
        return
    from runtime.fetch import fetch_with_bar
    from zoo.publishing import export_trained
    from zoo.trained import load_trained

    trained = load_trained(model, checkpoint)
    note(trained.source)
    fetch_with_bar()
    with Bar(f"exporting {trained.name}", total=None):
        entry, folder = export_trained(trained, output, dtype=dtype, storage=storage, opset=opset)
    if as_json:
        emit_json(entry | {"checkpoint": entry["checkpoint"] | {"path": str(trained.checkpoint.path)}})
        return
    emit(
        f"{folder / 'model.onnx'}  {entry['bytes']:,} bytes, opset {entry['opset']}, "
        f"test accuracy {entry['accuracy']['top1']:.4f}, {len(entry['verified']['checks'])} gates passed"
    )
    if entry["rounding"]:
        from export.movement import Movement

        emit(f"rounded: {Movement(**entry['rounding'])}")


def _export_layout(model: str, layout: str, output: Path, checkpoint: Path | None, as_json: bool) -> None:
    from zoo.layouts import export_layout

    written = export_layout(model, layout, output, checkpoint)
    if as_json:
        emit_json(written)
    else:
        emit(f"{written['folder']}  {layout} layout of {written['model']}; {written['next']}")


@zoo.command()
@model_argument
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
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Also write the report as JSON.")
@device_option
@json_option
def verify(
    model: str,
    onnx_file: Path | None,
    checkpoint: Path | None,
    images: int | None,
    dtype: str | None,
    engine: str,
    output: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Prove that MODEL's ONNX file is its network: every gate is run and reported; one that fails exits with 3.

    \b
    Example: zoo verify lenet --onnx model.onnx --checkpoint checkpoint.safetensors
    """
    from runtime.fetch import fetch_with_bar
    from runtime.storage import require_writable, write_bytes
    from runtime.strict_json import to_json
    from zoo.verification import find_pair, verify_stored

    if output is not None:
        require_writable(output)
    pair = find_pair(model, onnx_file, checkpoint)
    note(pair.source)
    note(pair.trained.source)
    fetch_with_bar()
    with Bar(f"verifying {model}", total=None):
        report = verify_stored(pair, images=images, device=device, dtype=dtype, engine=engine)
    document = report.as_dict()
    document |= {"file": str(pair.stored.path), "checkpoint": str(pair.trained.checkpoint.path)}
    if output is not None:
        write_bytes(output, (to_json(document, indent=2) + "\n").encode())
    if as_json:
        emit_json(document)
    else:
        print_report(report)
    if pair.stored.origin == "user":
        _warn_of_later_runs(pair.trained.checkpoint)
    if not report.passed:
        raise SystemExit(3)


@zoo.command("diff")
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def diff_command(first: Path, second: Path, as_json: bool) -> None:
    """Say what changed between two ONNX files: nodes, attributes, weights, metadata, answers to the same pictures.

    \b
    Example: zoo diff old.onnx new.onnx
    """
    from export.diff import diff
    from runtime.fashion_mnist import load
    from runtime.fetch import fetch_with_bar

    fetch_with_bar()
    found = diff(first.read_bytes(), second.read_bytes(), load("test")[0][:256])
    if as_json:
        emit_json(found.as_dict())
        return
    for title in ("form", "nodes", "weights", "metadata"):
        for line in getattr(found, title):
            emit(f"{title}: {line}")
    for name, difference in found.outputs.items():
        emit(
            f"outputs: {name} " + ("cannot be compared" if difference is None else f"differ by up to {difference:.3g}")
        )


@zoo.command()
@model_argument
@json_option
def publish(model: str, as_json: bool) -> None:
    """Copy your exported MODEL into the repository's weights/, after verifying it again from the file on disk.

    Of a model over 50 MB, all but the file and its checkpoint, with the command that makes them.

    \b
    Example: zoo publish lenet
    """
    from runtime.fetch import fetch_with_bar
    from runtime.store import user_weights
    from zoo import checkpoint
    from zoo.publishing import publish_exported

    fetch_with_bar()
    with Bar(f"publishing {model}", total=None):
        entry, folder = publish_exported(model)
    exported = checkpoint.checkpoint_in(user_weights() / entry["name"])
    note(f"published {exported.parent} (your export)")
    _warn_of_later_runs(checkpoint.load(exported))
    if as_json:
        emit_json(entry)
    else:
        emit(f"{folder}  test accuracy {entry['accuracy']['top1']:.4f}")
        if "rebuild" in entry:
            emit(f"not copied, too large: its file of {entry['bytes']:,} bytes; `{entry['rebuild']}` makes it")


def _warn_of_later_runs(exported: "Checkpoint") -> None:
    """Say, of an export of the user's, which of the user's runs are later and not in it."""
    from zoo.trained import runs_since

    for path in runs_since(exported):
        note(f"{path} was trained later and is not in this export: zoo export {exported.model} --checkpoint {path}")


def print_report(report: Any) -> None:
    """Print a verification as a table."""
    emit_table(
        ["gate", "verdict", "finding", "seconds"],
        [
            [check.name, "passed" if check.passed else "FAILED", check.detail, f"{check.seconds:.2f}"]
            for check in report.checks
        ],
        right=["seconds"],
    )
    failed = len(report.failures)
    emit(f"{report.model}: " + ("every gate passed" if report.passed else f"{failed} of {len(report.checks)} failed"))
