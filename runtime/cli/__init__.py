"""The `runtime` command and its list of commands. Only Click is imported until one of them is asked for."""

import click

from runtime import __version__
from runtime.cli.console import CONTEXT_SETTINGS, Group

COMMANDS = {
    "predict": "runtime.cli.predict:predict",
    "list": "runtime.cli.list:list_command",
    "info": "runtime.cli.info:info",
    "accuracy": "runtime.cli.accuracy:accuracy",
    "parity": "runtime.cli.parity:parity",
    "bench": "runtime.cli.bench:bench",
    "doctor": "runtime.cli.doctor:doctor",
    "serve": "runtime.cli.serve:serve",
}


@click.group(cls=Group, lazy_subcommands=COMMANDS, context_settings=CONTEXT_SETTINGS)
@click.version_option(__version__)
def runtime() -> None:
    """Run the zoo's ONNX models on pictures, without PyTorch.

    \b
    runtime predict shoe.png       what is in the picture
    runtime list                   the models on this machine
    runtime info -m lenet          everything a model says of itself
    runtime accuracy -m lenet      measure it on the 10,000 test images
    runtime parity -m lenet        is it the network it was made from, on this device
    runtime bench -m lenet         how fast it starts and runs here
    runtime doctor --selftest      what this machine can do, and whether it computes rightly
    runtime serve                  answer over HTTP, with a page for people at /
    """
