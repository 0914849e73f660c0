"""`zoo list`: the networks."""

import click

from runtime.cli.console import Command, emit_json, emit_table, json_option


@click.command("list", cls=Command)
@json_option
def list_command(as_json: bool) -> None:
    """List the networks: size, accuracy, and whether they are published.

    \b
    Example: zoo list --json
    """
    from zoo.publishing.catalogue import catalogue

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
