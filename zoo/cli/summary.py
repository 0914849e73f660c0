"""`zoo summary`: a network, layer by layer."""

import click

from runtime.cli.console import Command, emit, emit_json, emit_table, json_option
from zoo.cli.options import model_argument


@click.command(cls=Command)
@model_argument
@click.option(
    "--depth",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="1: the rows of D2L; 2: the parts of its blocks; 0: single layers.",
)
@json_option
def summary(model: str, depth: int, as_json: bool) -> None:
    """Show MODEL layer by layer; every convolution's and pooling's shape is checked against the closed formula.

    \b
    Example: zoo summary resnet18 --depth 2
    """
    from zoo.models.summary import summarize

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
