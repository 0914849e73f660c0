"""`zoo data`: where Fashion-MNIST is."""

import click

from runtime.cli.console import Command, emit, emit_json, json_option


@click.command(cls=Command)
@click.option("--offline", is_flag=True, help="Only look on this machine.")
@json_option
def data(offline: bool, as_json: bool) -> None:
    """Show where Fashion-MNIST is, or get it; every file is checked.

    \b
    Example: zoo data
    """
    from runtime.cli.fetch import fetch_with_bar
    from runtime.datasets import fashion_mnist

    location = fashion_mnist.find() if offline else fetch_with_bar()
    if location is None:
        raise click.ClickException("Fashion-MNIST is not on this machine; run `zoo data` without --offline to get it")
    fashion_mnist.verify(location.folder)
    if as_json:
        emit_json({"folder": str(location.folder), "origin": location.origin, "verified": True})
    else:
        emit(f"{location.folder}  ({location.origin}; all four files are the clean release)")
