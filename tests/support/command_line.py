"""The two commands, called in this process; and Python in a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from runtime.cli import runtime
from zoo.cli import zoo

ROOT = Path(__file__).resolve().parents[2]
GROUPS: dict[str, click.Group] = {"runtime": runtime, "zoo": zoo}


def call(group: str, *arguments: object, stdin: bytes | None = None) -> Result:
    """Run `runtime ARGUMENTS` or `zoo ARGUMENTS`."""
    return CliRunner().invoke(GROUPS[group], [str(argument) for argument in arguments], input=stdin)


def python(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run Python in the root of the repository; `more` is for `subprocess.run`."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, **{"capture_output": True, "text": True, "cwd": ROOT, "check": False} | more)
