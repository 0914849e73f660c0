"""`zoo list | summary | data`: what there is, before anything is trained."""

import click

from runtime.console import Command, emit, emit_json, emit_table, json_option
from zoo.options import model_argument


@click.command("list", cls=Command)
@json_option
def list_command(as_json: bool) -> None:
    """List the networks: size, accuracy, and whether they are published.

    \b
    Example: zoo list --json
    """
    from zoo.catalogue import catalogue

    rows = catalogue()
    if as_json:
        emit_json(rows)
        return
    emit_table(
        ["name", "input", "parameters", "flops", "recipe", "accuracy", "published"],
        [
            [
                row["name"],
                f"{row['input_size']}x{row['input_size']}",
                f"{row['parameters']:,}",
                f"{row['flops']:,}",
                row["recipe"] or "-",
                "-" if row["accuracy"] is None else f"{row['accuracy']:.4f}",
                "yes" if row["published"] else "no",
            ]
            for row in rows
        ],
        right=["input", "parameters", "flops", "accuracy"],
    )


@click.command(cls=Command)
@model_argument
@click.option(
    "--depth",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="How far to take blocks apart: 1 as the book does, 0 to single layers.",
)
@json_option
def summary(model: str, depth: int, as_json: bool) -> None:
    """Show MODEL layer by layer; every convolution's and pooling's shape is checked against the closed formula.

    \b
    Example: zoo summary resnet18 --depth 2
    """
    from zoo.summary import summarize

    found = summarize(model, depth)
    if as_json:
        emit_json(found.as_dict())
        return
    emit_table(
        ["layer", "type", "output", "parameters", "multiply-adds", "receptive field"],
        [
            [
                layer.name,
                layer.type,
                "x".join(map(str, layer.output_shape[1:])),
                f"{layer.parameters:,}",
                f"{layer.multiply_adds:,}",
                layer.receptive_field,
            ]
            for layer in found.layers
        ],
        right=["parameters", "multiply-adds", "receptive field"],
    )
    side = found.input_shape[-1]
    emit(f"{found.model}: input 1x{side}x{side}, {found.parameters:,} parameters, {found.flops:,} flops an image")


@click.command(cls=Command)
@click.option("--offline", is_flag=True, help="Only look on this machine.")
@json_option
def data(offline: bool, as_json: bool) -> None:
    """Show where Fashion-MNIST is, or get it; every file is checked.

    \b
    Example: zoo data
    """
    from runtime import fashion_mnist
    from runtime.fetch import fetch_with_bar

    location = fashion_mnist.find() if offline else fetch_with_bar()
    if location is None:
        raise click.ClickException("Fashion-MNIST is not on this machine; run `zoo data` without --offline to get it")
    fashion_mnist.verify(location.folder)
    if as_json:
        emit_json({"folder": str(location.folder), "origin": location.origin, "verified": True})
    else:
        emit(f"{location.folder}  ({location.origin}; all four files are the clean release)")
