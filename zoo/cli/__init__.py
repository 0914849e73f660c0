"""The `zoo` command and its list of commands. PyTorch is imported by the commands that need it."""

import click

from runtime import __version__
from runtime.cli.console import CONTEXT_SETTINGS, Group

COMMANDS = {
    "list": "zoo.cli.list:list_command",
    "summary": "zoo.cli.summary:summary",
    "data": "zoo.cli.data:data",
    "train": "zoo.cli.train:train",
    "eval": "zoo.cli.eval:eval_command",
    "export": "zoo.cli.export:export",
    "verify": "zoo.cli.verify:verify",
    "publish": "zoo.cli.publish:publish",
    "diff": "zoo.cli.diff:diff_command",
    "parity": "zoo.cli.parity:parity",
    "bench": "zoo.cli.bench:bench",
}


@click.group(cls=Group, lazy_subcommands=COMMANDS, context_settings=CONTEXT_SETTINGS)
@click.version_option(__version__)
def zoo() -> None:
    """Train the networks of D2L on Fashion-MNIST, export them to ONNX, and prove the export.

    \b
    zoo train lenet                train, saving after every epoch
    zoo export lenet               convert the trained network into one ONNX file
    zoo verify lenet               prove that the file is the network
    runtime predict shoe.png       use it, without PyTorch
    """
