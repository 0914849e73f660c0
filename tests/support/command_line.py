"""The two commands, called in this process."""

from pathlib import Path

import click
from click.testing import CliRunner, Result

from runtime.cli import runtime
from zoo.cli import zoo

ROOT = Path(__file__).resolve().parents[2]
GROUPS: dict[str, click.Group] = {"runtime": runtime, "zoo": zoo}


def call(group: str, *arguments: object, stdin: bytes | None = None) -> Result:
    """Run `runtime ARGUMENTS` or `zoo ARGUMENTS`."""
    return CliRunner().invoke(GROUPS[group], [str(argument) for argument in arguments], input=stdin)
